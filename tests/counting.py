"""A cache that tells what it has to compute."""


def counting(cache, computed):
    """The cache, which appends the name of every result that it computes."""

    def counted(name, depends_on, compute):
        def noted():
            computed.append(name)
            return compute()

        return cache(name, depends_on, noted)

    return counted
