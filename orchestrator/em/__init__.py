"""One Enterprise Manager behind the ports: the only room that speaks HTTP and reads XML.

    client      one server: opens its logon sessions, takes up one that was left
    session     the port's verbs: find points, start a mount, read tasks, browse, unmount
    line        a session's requests: pages, doubtful answers, whether it still lives
    logon       logon, the token, logoff; taking up a session again
    transport   one request: TLS, caps, was it sent, status -> error
    queries     filters in the server's query language
    links       a Href is a path; which requests may be sent at all
    wire        bytes <-> model, behind a codec
    families    the three kinds of restore point, as data
    credentials secrets, resolved at logon

Facts about the server come from the protocol reference; each docstring says which.
"""
