"""What the engine needs from the outside, as Protocols.

`em` implements those of `server`, `journal` those of `journal`, `store` and `tokens`, `local` those
of `local`, `database` those of `fence` and `sites`; views and reports implement Observer. Nothing
here has behaviour; None where an implementation is missing.
"""
