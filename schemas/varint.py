"""Numbers as Avro writes them, for what is written by hand because there is one for every record."""


def write_long(number: int) -> bytes:
    """Write an Avro long: zigzag, then base-128 groups, lowest first."""
    rest = (number << 1) ^ (number >> 63)
    if rest < 128:
        return bytes((rest,))
    if 1 << 14 <= rest < 1 << 28:  # four of five offsets, without a loop
        low, high = rest & 0x3FFF, rest >> 14
        middle = bytes((low & 127 | 128, low >> 7 | 128))
        return middle + (bytes((high,)) if high < 128 else bytes((high & 127 | 128, high >> 7)))
    groups = bytearray()
    while rest > 127:
        groups.append(rest & 127 | 128)
        rest >>= 7
    groups.append(rest)
    return bytes(groups)
