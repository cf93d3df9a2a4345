// One GET by Node with a client certificate; prints the body, or the error's code and exits 1.
//
//   node node_client.js URL CA CERT KEY
const https = require('https');
const fs = require('fs');

const [url, ca, cert, key] = process.argv.slice(2);
const options = {
  ca: fs.readFileSync(ca),
  cert: fs.readFileSync(cert),
  key: fs.readFileSync(key),
};

const fail = (error) => {
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
};

https.request(url, options, (response) => {
  response.on('error', fail);
  response.pipe(process.stdout);
  if (response.statusCode !== 200) fail({ code: response.statusCode, message: response.statusMessage });
}).on('error', fail).end();
