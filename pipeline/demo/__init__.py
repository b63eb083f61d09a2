"""`attestream demo`: the whole path on a real record, attacks mixed in, judged from outside the stages."""
