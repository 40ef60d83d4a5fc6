"""Lines of image decoders are dropped from standard error, and no others."""

import os

from imgpipe.serving import decoder_lines

LIBJPEG = b"Corrupt JPEG data: 3 extraneous bytes before marker 0xd9\n"
TENSORFLOW = b"E0000 00:00:1795763738.978411 25890 jpeg_mem.cc:331] Premature end of JPEG data.\n"


def test_lines_of_decoders_are_dropped_and_all_others_are_kept(capfd):
    with decoder_lines.dropped():
        os.write(2, LIBJPEG + b"a line\n")
        with decoder_lines.dropped():
            os.write(2, TENSORFLOW + b"no end of line")
        os.write(2, b", and its end\n" + LIBJPEG)
    os.write(2, LIBJPEG)
    expected = b"a line\nno end of line, and its end\n" + LIBJPEG
    assert capfd.readouterr().err == expected.decode()
