"""Runs at the start of each Python process whose PYTHONPATH the launcher has put this directory on.

Any Python may come by here, an old one or one of another environment too, so: nothing but plain
statements, and where heitu cannot be imported nothing happens.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))

# The program sees the path that it would have had; PYTHONPATH keeps the entry for its children.
sys.path[:] = [entry for entry in sys.path if entry != _here]

if os.environ.get("HEITU_ENABLE", "0") != "0":
    try:
        from heitu.launch.activate_on_torch import watch
    except Exception:
        pass
    else:
        watch()

# The sitecustomize that would have run without us runs now, and takes its place in sys.modules.
_ours = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401
except ImportError as _error:
    if getattr(_error, "name", "sitecustomize") != "sitecustomize":
        raise
finally:
    if _ours is not None:
        sys.modules.setdefault("sitecustomize", _ours)
