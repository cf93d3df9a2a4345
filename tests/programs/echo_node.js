// Node's http server, which prints where it listens; answers as echo_http_server.py does.
const http = require('http');
const crypto = require('crypto');

const server = http.createServer((req, res) => {
  const hash = crypto.createHash('sha256');
  req.on('data', (piece) => hash.update(piece));
  req.on('end', () => {
    res.write(`${req.method} ${req.url} `);
    res.end(`${req.headers['x-peer-name']} ${hash.digest('hex')}\n`);
  });
});

server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));
