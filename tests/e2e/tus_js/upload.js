// Uploads a file by tus-js-client, as the page and programs under Node do; prints the upload's address.
import fs from "node:fs";
import path from "node:path";
import { Upload } from "tus-js-client";

const [endpoint, file] = process.argv.slice(2);
const upload = new Upload(fs.createReadStream(file), {
  endpoint,
  uploadSize: fs.statSync(file).size,
  chunkSize: 50_000_000,
  retryDelays: [0, 200, 500, 1000, 2000],
  metadata: { filename: path.basename(file) },
  onError(error) {
    console.error(String(error));
    process.exitCode = 1;
  },
  onSuccess() {
    console.log(upload.url);
  },
});
upload.start();
