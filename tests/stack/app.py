"""The web application of tests/stack.rs: notes lie in PostgreSQL (`db`), the count of visits in Redis (`cache`)."""

import http.server
import json

import psycopg2
import redis

PAGE = b"""<!doctype html><title>notes</title><ul id=notes></ul><p id=visits></p>
<script>
fetch("/data").then(answer => answer.json()).then(data => {
    for (const note of data.notes) document.getElementById("notes").append(Object.assign(document.createElement("li"), {textContent: note}))
    document.getElementById("visits").textContent = "visit " + data.visits
})
</script>
"""


def ask(statement, *values):
    connection = psycopg2.connect(host="db", user="postgres", dbname="postgres", connect_timeout=5)
    with connection, connection.cursor() as cursor:
        cursor.execute("create table if not exists notes (id serial, text text)")
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


class Application(http.server.BaseHTTPRequestHandler):
    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path != "/data":
            return self.answer("text/html", PAGE)
        notes = ask("select text from notes order by id")
        visits = redis.Redis(host="cache").incr("visits")
        self.answer("application/json", json.dumps({"notes": notes, "visits": visits}).encode())

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer("text/plain", b"note %d\n" % ask("insert into notes (text) values (%s) returning id", text)[0])


http.server.ThreadingHTTPServer(("", 8000), Application).serve_forever()
