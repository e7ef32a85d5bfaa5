// The hello of the comparison, as Node answers it with what it brings: no framework, one process, no isolation between requests.
"use strict";

const http = require("node:http");

const server = http.createServer((_request, response) => {
  const body = "Hello from Fornax!\n";
  response.writeHead(200, { "content-type": "text/plain", "content-length": Buffer.byteLength(body) });
  response.end(body);
});
// The other servers of the comparison keep connections longer than any round.
server.keepAliveTimeout = 60000;
server.listen(0, "127.0.0.1", () => console.error(`listening on http://127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
