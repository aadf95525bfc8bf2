"""How selection grows: `python benchmarks/select.py --help`; the measuring is in `select_growth.py`.

This file has a module of the standard library's name, and the folder of a script comes first where Python looks for modules: whoever asks for
`select` from a script in here is handed the real one.
"""

if __name__ == "__main__":
    from select_growth import main

    main()
else:
    import os
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    found = PathFinder.find_spec("select", [path for path in sys.path if os.path.abspath(path) != here])
    if found is None or found.loader is None:
        raise ModuleNotFoundError("select", name="select")
    sys.modules["select"] = module_from_spec(found)
    found.loader.exec_module(sys.modules["select"])
