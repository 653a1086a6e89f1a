"""Push services for labs and tests, that speak the vendors' protocols over real sockets.

FCM HTTP v1 with its OAuth 2.0 token endpoint, APNs over HTTP/2, and Web Push. They check what the
real ones check (signatures, ages, audiences, sizes, unknown fields) and answer with the same
errors; tokens can be made to expire, and services to fail. The link between a vendor and a device
is theirs and secret: here it is a TCP connection with a line of JSON for each push.

`python -m ntmobile.lab.push DIRECTORY ADDRESS` runs all of them as one process.
"""
