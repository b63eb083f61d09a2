"""The crate's own tests are part of a run only where the crate is asked for.

`ATTESTREAM_NATIVE=require` collects them, and then a crate that is missing is an error. Any other run, such
as that of a machine without Rust, does not have them at all; it would prove nothing by passing over them.
"""

import os

from schemas.native import VARIABLE

collect_ignore_glob = [] if os.environ.get(VARIABLE) == "require" else ["test_*.py"]
