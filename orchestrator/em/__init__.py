"""One Enterprise Manager behind the ports: the only room that speaks HTTP and reads XML.

    client      the port's verbs: find points, start a mount, read tasks, browse, unmount
    session     logon, the token, keep-alive, logoff; taking up a session again
    transport   one request: TLS, caps, was it sent, status -> error
    links       a Href is a path; which requests may be sent at all
    wire        bytes <-> model, behind a codec
    families    the three kinds of restore point, as data
    credentials secrets, resolved at logon

Facts about the server come from the protocol reference; each docstring says which.
"""
