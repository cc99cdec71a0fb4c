"""Work inside a mounted guest: reading, checking, downloading and writing back files."""
