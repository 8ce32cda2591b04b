//! Getting a byte stream: TCP, PROXY protocol, TLS, WebSocket.

pub mod proxy_protocol;
