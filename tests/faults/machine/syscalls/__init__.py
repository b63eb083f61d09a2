"""Storage faults at single system calls: killed at each, refused, cut short, and what a power cut leaves.

python -m tests.faults.machine.syscalls --stage seal|anchor [--action kill|torn|eio|enospc|full|short]
    [--sample N --seed S] [--power-cuts] [--power-cuts-after-kill]
        [--broken fsync_skipped] [--check-with-strace]
"""
