"""Real reverse proxies on loopback, in front of a simulated server, with TLS on both sides.

Each is started with the smallest configuration that forwards everything and reuses its
connections to the server. Varnish speaks no TLS, so a tunnel stands on either side of it.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from orchestrator.simulator.certificates import Certificate

START_S = 60.0
"""Seconds that a proxy may take until it listens."""


def free_port() -> int:
    """Return a port of loopback that nothing uses now.

    None of those that the system gives to whoever asks for any, so that nobody gets it meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@contextmanager
def _running(argv: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a proxy until it is not needed any more; return once it listens on `port`."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # a process of somebody else's: nothing here can tell us sooner
    raise RuntimeError(f"the proxy does not listen: {log.read_text(errors='replace')[-2000:]}")


def _pem(certificate: Certificate, directory: Path) -> Path:
    """Return one file with key and certificate, as most proxies want them."""
    path = directory / "both.pem"
    path.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
    path.chmod(0o600)
    return path


@contextmanager
def nginx(server: int, certificate: Certificate, directory: Path) -> Iterator[int]:
    """Forward by nginx, which repeats GET and DELETE on a kept connection that closed."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(f"""
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream em {{ server 127.0.0.1:{server}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate.certificate};
    ssl_certificate_key {certificate.key};
    location / {{
      proxy_pass https://em;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
""")
    argv = ["nginx", "-p", str(directory), "-c", str(config)]
    with _running(argv, port, directory / "nginx.log"):
        yield port


@contextmanager
def haproxy(server: int, certificate: Certificate, directory: Path) -> Iterator[int]:
    """Forward by HAProxy, which closes without an answer where the server did."""
    port = free_port()
    config = directory / "haproxy.cfg"
    config.write_text(f"""
defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend em
  bind 127.0.0.1:{port} ssl crt {_pem(certificate, directory)}
  default_backend em
backend em
  server em 127.0.0.1:{server} ssl verify none
""")
    argv = ["haproxy", "-db", "-f", str(config)]
    with _running(argv, port, directory / "haproxy.log"):
        yield port


@contextmanager
def apache(server: int, certificate: Certificate, directory: Path) -> Iterator[int]:
    """Forward by Apache, which answers 404 by itself for a path that holds `%2F`."""
    port = free_port()
    modules = ("mpm_event", "proxy", "proxy_http", "ssl", "authz_core", "socache_shmcb")
    loaded = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules
    )
    config = directory / "apache.conf"
    config.write_text(f"""
{loaded}
ServerName localhost
Listen 127.0.0.1:{port} https
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/apache-error.log
SSLEngine on
SSLCertificateFile {certificate.certificate}
SSLCertificateKeyFile {certificate.key}
SSLProxyEngine on
SSLProxyVerify none
SSLProxyCheckPeerCN off
SSLProxyCheckPeerName off
SSLProxyCheckPeerExpire off
ProxyPass / https://127.0.0.1:{server}/
""")
    argv = ["apache2", "-D", "FOREGROUND", "-d", str(directory), "-f", str(config)]
    with _running(argv, port, directory / "apache.log"):
        yield port


@contextmanager
def _tunnel(name: str, port: int, text: str, directory: Path) -> Iterator[int]:
    config = directory / f"{name}.conf"
    config.write_text(f"foreground = yes\npid =\nsyslog = no\n[{name}]\n{text}")
    with _running(["stunnel", str(config)], port, directory / f"{name}.log"):
        yield port


@contextmanager
def varnish(server: int, certificate: Certificate, directory: Path) -> Iterator[int]:
    """Forward by Varnish, which answers 503 where the server closed, and says to come again."""
    with ExitStack() as stack:
        plain = free_port()
        text = f"client = yes\naccept = 127.0.0.1:{plain}\nconnect = 127.0.0.1:{server}\n"
        stack.enter_context(_tunnel("inner", plain, text, directory))
        inside = free_port()
        vcl = directory / "default.vcl"
        vcl.write_text(f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{plain}"; }}
sub vcl_recv {{ return (pass); }}
""")
        argv = [*("varnishd", "-F", "-j", "none", "-n", str(directory / "varnish"))]
        argv += [*("-f", str(vcl), "-a", f"127.0.0.1:{inside}", "-s", "malloc,16m")]
        stack.enter_context(_running(argv, inside, directory / "varnish.log"))
        port = free_port()
        text = f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{inside}\n"
        text += f"cert = {_pem(certificate, directory)}\n"
        stack.enter_context(_tunnel("outer", port, text, directory))
        yield port


Front = Callable[[int, Certificate, Path], AbstractContextManager[int]]

FRONTS: dict[str, Front] = {
    "apache": apache,
    "nginx": nginx,
    "haproxy": haproxy,
    "varnish": varnish,
}
NEEDED = {
    "apache": ("apache2",),
    "nginx": ("nginx",),
    "haproxy": ("haproxy",),
    "varnish": ("varnishd", "stunnel"),
}
"""Which programs each of them is."""


def missing(name: str) -> str | None:
    """Return the program that is not installed for a proxy, or None."""
    return next((each for each in NEEDED[name] if shutil.which(each) is None), None)
