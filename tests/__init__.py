from tests.checking import typechecker as typechecker
