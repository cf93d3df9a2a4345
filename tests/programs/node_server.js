// The server of seed 002 as the document prints it; the file names come from the command line and the port is a free one.
//
//   node node_server.js CA CERT KEY
const https = require('https');
const fs = require('fs');

const [ca, cert, key] = process.argv.slice(2);
const hostname = '127.0.0.1';
const port = 0;

const options = {
    ca: fs.readFileSync(ca),
    cert: fs.readFileSync(cert),
    key: fs.readFileSync(key),
    rejectUnauthorized: true,
    requestCert: true,
};

const server = https.createServer(options, (req, res) => {
  res.statusCode = 200;
  res.setHeader('Content-Type', 'text/plain');
  res.end('Hello World');
});

server.listen(port, hostname, () => {
  console.log(`Server running at http://${hostname}:${server.address().port}/`);
});
