// Starts the page and shows the view of the address: #job=ID a job, otherwise the start view.

import { byId, setText } from "./dom.js";
import { HomeView } from "./home-view.js";
import { JobView } from "./job-view.js";
import { askForKey, showForget } from "./key-dialog.js";
import { placeOf } from "./links.js";
import { pageSettings } from "./page-settings.js";
import { key, setKey } from "./session.js";
import { onDeleted } from "./tabs.js";
import { setSubject } from "./title.js";

const home = new HomeView();
const jobView = new JobView({ onGone: () => location.assign("#") });
let first = true;

function route() {
  const place = placeOf(location.hash);
  byId("home-view").hidden = Boolean(place);
  byId("job-view").hidden = !place;
  if (place) {
    home.hide();
    jobView.open(place.job, place.moment, place.other);
  } else {
    setSubject("Mien: expressions in video");
    jobView.close();
    home.show();
  }
  scrollTo(0, 0);
  // Navigation by a link also moves the focus for screen readers; loading the page does not.
  if (!first) byId(place ? "job-name" : "home-title").focus();
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
    // the first call reports the problem
  }
  onDeleted((jobId) => {
    jobView.deleted(jobId);
    if (!byId("home-view").hidden) home.history.refresh();
  });
  addEventListener("hashchange", route);
  route();
}

start();
