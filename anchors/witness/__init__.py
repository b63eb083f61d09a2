"""Witnesses (https://c2sp.org/tlog-witness): others who cosign that the log only ever grew.

`panel` asks those of a policy through `client`; `server` is a witness of our own, deciding in `witness` from
what `memory` keeps.
"""
