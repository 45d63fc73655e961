"""Answers one request with what a wheel says."""

from http.server import BaseHTTPRequestHandler, HTTPServer

import greetings


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = greetings.greet(self.path.strip("/")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = HTTPServer(("127.0.0.1", 0), Handler)
print("listening on 127.0.0.1:%d" % server.server_port)
server.handle_request()
