// Starts the page and shows the view that the address names: #job=ID a job, anything else the start.

import { byId, setText } from "./dom.js";
import { HomeView } from "./home-view.js";
import { JobView } from "./job-view.js";
import { askForKey, showForget } from "./key-dialog.js";
import { pageSettings } from "./page-settings.js";
import { key, setKey } from "./session.js";
import { onDeleted } from "./tabs.js";
import { setSubject } from "./title.js";

const JOB = /^#job=([0-9a-f]{32})(?:&|$)/;

const home = new HomeView();
const jobView = new JobView({ onGone: () => location.assign("#") });
let first = true;

function route() {
  const job = JOB.exec(location.hash)?.[1];
  byId("home-view").hidden = Boolean(job);
  byId("job-view").hidden = !job;
  if (!job) setSubject("Mien: expressions in video");
  if (job) {
    home.hide();
    const query = new URLSearchParams(location.hash.slice(1));
    const [time, track] = [Number(query.get("t")), Number(query.get("face"))];
    const moment = query.has("t") && Number.isFinite(time) ? { time, track: query.has("face") ? track : null } : null;
    const other = /^[0-9a-f]{32}$/.exec(query.get("with") ?? "")?.[0] ?? "";
    jobView.open(job, moment, other === job ? "" : other);
  } else {
    jobView.close();
    home.show();
  }
  scrollTo(0, 0);
  // Where the reader goes by a link, the screen reader goes, too; not when the page is loaded.
  if (!first) byId(job ? "job-name" : "home-title").focus();
  first = false;
}

async function start() {
  byId("forget-key").onclick = () => {
    setKey("");
    showForget();
    location.assign("#");
    location.reload();
  };
  showForget();
  try {
    const settings = await pageSettings();
    setText(byId("version"), settings.version);
    setText(byId("inputs"), settings.inputs);
    if (settings.keys_needed && !key()) await askForKey();
  } catch {
    // the first call says what is wrong
  }
  onDeleted((jobId) => {
    jobView.deleted(jobId);
    if (!byId("home-view").hidden) home.history.refresh();
  });
  addEventListener("hashchange", route);
  route();
}

start();
