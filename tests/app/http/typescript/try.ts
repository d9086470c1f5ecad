// Submits, follows and reads with the generated client; prints the job's id, then what it has read as JSON.
import { client } from "./client/client.gen.js";
import { getFrames, getJob, listJobs, submitJob } from "./client/sdk.gen.js";

client.setConfig({ baseUrl: process.argv[2], throwOnError: true });

const file = new File([new Uint8Array(Buffer.from(process.argv[3] ?? "", "base64"))], "a.mp4");
const submitted = await submitJob({
  body: { file, max_faces: 3, members: ["cnn", "cnn_rnn"] },
  query: { max_faces: 3 },
});
const id = submitted.data!.id;
console.log(id);

let job = submitted.data!;
while (job.state === "queued" || job.state === "running") {
  job = (await getJob({ path: { job_id: id }, query: { wait: 30 } })).data!;
}
const page = (await getFrames({ path: { job_id: id }, query: { limit: 50 } })).data!;
if (Array.isArray(page)) throw new Error("not asked for");
const first = (await listJobs({ query: { limit: 1 } })).data!;
console.log(
  JSON.stringify({
    state: job.state,
    options: job.options,
    timeline: job.links.timeline,
    indices: page.frames.map((frame) => frame.frame_index),
    listed: first.jobs.map((listed) => listed.id),
  }),
);
