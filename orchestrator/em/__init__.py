"""One Enterprise Manager behind the ports: the only package that reads its XML and JSON.

    client      one server: opens its logon sessions, takes up one that was left
    session     the port's verbs: find points, start a mount, read tasks, browse, unmount
    requests    a session's requests: pages, doubtful answers, whether it still lives
    logon       logon, the token, logoff; taking up a session again
    budget      how often an account may be logged on
    token       what opens a session, shown to nobody
    masking     secrets masked in every body before it is read
    own_session the one small question whether a session and its service are there
    transport   one request: TLS, caps, was it sent
    fencing     requests that wait for a lease, or end with it
    meanings    what an answer other than success means, and whose words it holds
    links       a Href is a path; which requests may be sent at all
    format      which form a server is spoken to in: XML or JSON
    wire        bytes <-> model: what answers mean, and the codec of XML
    json_codec  the codec of JSON
    elements    answers in XML, and the elements that meanings are read from
    json_reading, json_values: the same of answers in JSON
    families    the three kinds of restore point, as data
    credentials secrets, resolved at logon

Facts about the server come from the protocol reference; each docstring says which.
"""
