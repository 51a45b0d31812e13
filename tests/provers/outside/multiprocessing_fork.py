"""CPython's own tests of multiprocessing, as the interpreter ships them, for one start method."""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "fork")
