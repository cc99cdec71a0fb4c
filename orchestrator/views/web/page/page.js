"use strict";
// Draws what the run's process tells. Text is only ever set as text, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const KINDS = {verified: "good", mounted: "good", failed: "bad", unknown: "doubt",
                 skipped: "idle", cancelled: "idle"};
  const ALWAYS = ["verified", "failed", "unknown"];
  const ENDS = ["failed", "unknown"];
  const at = (id) => document.getElementById(id);

  function make(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function draw(tag, attributes) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function clock(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    return `${hours ? hours + ":" : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  }

  function wallTime(seconds) { // of the run's clock
    const time = new Date(Date.parse(picture.started_at) + 1000 * seconds);
    const minutes = {hour: "2-digit", minute: "2-digit"};
    const isToday = time.toDateString() === new Date().toDateString();
    return isToday ? time.toLocaleTimeString([], minutes)
      : time.toLocaleString([], {day: "numeric", month: "short", ...minutes});
  }

  // --- the picture ------------------------------------------------------------------------

  let picture = null;
  let pictured = 0;

  function now() {
    if (picture === null) return 0;
    const goesOn = !["finished", "interrupted", "stalled", "waiting"].includes(picture.state);
    return picture.now + (goesOn && online ? (performance.now() - pictured) / 1000 : 0);
  }

  function badge() {
    const state = picture.state;
    if (state === "finished") {
      const code = picture.exit_code;
      return [`finished, exit code ${code}`, code === 0 ? "good" : code === 3 ? "doubt" : "bad"];
    }
    if (picture.is_away) return ["the database is away", "bad"];
    if (state === "confirming") return ["waiting for confirmation", "doubt"];
    if (state === "interrupted") return [picture.abandoned, "bad"];
    if (state === "waiting") return [picture.abandoned, "doubt"];
    if (state === "stalled") return [picture.stalled, "bad"];
    const awaited = picture.awaited.map((each) => each.short);
    if (awaited.length) return [awaited.join(", "), "doubt"];
    return [state, state === "ending" ? "doubt" : "busy"];
  }

  function show() {
    at("all").hidden = false; // before the first picture nothing is known, not even that it is 0
    at("plan").textContent = picture.plan ?? "…";
    document.title = `${picture.done}/${picture.targets} ${picture.plan ?? "bulk-restore"}`;
    const [word, kind] = badge();
    at("state").textContent = word;
    at("state").className = `badge ${kind}`;
    const begun = picture.started_at ? new Date(picture.started_at).toLocaleString() : "";
    at("run").textContent = [picture.run, picture.mode, begun && `began ${begun}`]
      .filter(Boolean).join(" · ");
    at("reason").textContent = picture.reason ? `· ${picture.reason}` : "";
    const ending = picture.is_away ? "" : ["interrupted", "stalled", "waiting"].includes(picture.state)
      ? picture.continuing
      : picture.state === "finished"
        ? picture.stops.map(([second, words]) => `${words} at ${clock(second)}`).join("; ")
        : [picture.ending, picture.harder].filter(Boolean).join("; ");
    at("ending").hidden = !ending;
    at("ending").textContent = ending;
    at("awaited").hidden = !picture.awaited.length;
    at("awaited").replaceChildren(...picture.awaited.map(awaited));
    at("standstills").hidden = !picture.standstills.length;
    at("standstills").replaceChildren(...picture.standstills.map((each) => make("li", "", each)));
    at("outcome").hidden = picture.exit_words === null;
    at("outcome").className = `ending ${picture.exit_words === null ? "" : kind}`;
    at("outcome").textContent = picture.exit_words === null ? ""
      : `Exit code ${picture.exit_code}: ${picture.exit_words}`;
    showLeft();
    const held = picture.held;
    const until = held.until === null ? "until somebody ends it" : `until ${wallTime(held.until)}`;
    at("held").hidden = !held.count;
    at("held").textContent =
      `${held.count} held open ${until}: ${held.verdicts}; end it: bulk-restore unmount ${picture.run}`;
    at("done").textContent = `${picture.done}/${picture.targets} done`;
    showBar();
    showTiles();
    at("servers").replaceChildren(...picture.servers.map(server));
    at("more-servers").hidden = !picture.more_servers;
    at("more-servers").textContent = `and ${picture.more_servers} more`;
    at("failures").replaceChildren(...picture.failures.map(failure));
    at("needs-person").hidden = !picture.failures.length;
    at("slow").hidden = !picture.slowest.length;
    tick();
  }

  function showLeft() { // what may be open, and what to do about it
    const isOver = picture.state === "finished";
    const unmount = `bulk-restore unmount ${picture.run}`;
    const beyond = picture.out_of_reach;
    const them = beyond ? "the rest" : "them";
    at("open-mounts").hidden = !picture.left_open && !picture.unread.length;
    at("beyond").hidden = !beyond;
    at("beyond").textContent = picture.out_of_reach_words;
    at("release").hidden = beyond >= picture.left_open && !picture.unread.length;
    at("release").textContent = picture.state === "interrupted"
      ? `This looks for ${them} and goes on: bulk-restore resume ${picture.run}`
      : picture.state === "waiting" ? `The next worker goes on with ${them}; this stops the run, and may release ${them} without one: ${unmount}`
      : isOver ? `Until about ${wallTime(picture.left_until)} this may still release ${them}: ${unmount}`
        : `Once the run has ended, this may release ${them}: ${unmount}`;
    at("left").replaceChildren(...picture.unread.map(notKnown), ...picture.left_named.map(leftOpen));
    const more = picture.left_open - picture.left_named.length;
    at("more-left").hidden = more <= 0;
    at("more-left").textContent = `and ${more} more`;
  }

  function awaited(each) { // what only a person can do, and the command for it
    const made = make("li", "", `${each.words}: `);
    made.append(make("code", "", each.command));
    return made;
  }

  function notKnown(words) {
    const made = make("li");
    made.append(make("span", "doubt", words));
    return made;
  }

  function leftOpen(record) {
    const made = make("li");
    const words = record.mount === "left" ? "left mounted" : `mount ${record.mount}`;
    const point = record.point && `restore point ${record.point}`;
    made.append(make("b", "", record.key), make("span", "doubt", words),
                make("span", "soft", [`on ${record.where}`, point].filter(Boolean).join(", ")),
                make("span", "", record.message));
    return made;
  }

  function showBar() {
    const parts = [];
    let x = 0;
    const add = (count, kind) => {
      const width = 1000 * count / Math.max(1, picture.targets);
      if (count) parts.push(draw("rect", {x, y: 0, width, height: 10, class: kind}));
      x += width;
    };
    for (const [result, count] of Object.entries(picture.results)) add(count, KINDS[result]);
    add(picture.open, "busy");
    at("bar").replaceChildren(...parts);
    at("bar").setAttribute("aria-label", at("done").textContent);
  }

  function showTiles() {
    const tile = (count, name, kind) => {
      const made = make("li", count ? kind : "");
      made.append(make("b", "", count), name);
      return made;
    };
    const shown = Object.entries(picture.results)
      .filter(([result, count]) => count || ALWAYS.includes(result))
      .map(([result, count]) => tile(count, result, KINDS[result]));
    if (picture.left_open) shown.push(tile(picture.left_open, "may be mounted", "doubt"));
    shown.push(tile(picture.open, "open", ""), tile(picture.waiting, "waiting", ""));
    at("tiles").replaceChildren(...shown);
    const going = picture.waves.map((wave) => `${wave.name} ${wave.done}/${wave.targets}`);
    at("waves").hidden = picture.waves_all < 2;
    const isOver = picture.state === "finished" || picture.state === "interrupted";
    const ended = `${picture.waves_ended} of ${picture.waves_all}`;
    at("waves").textContent = isOver ? `${ended} waves ended` : (going.length ? `wave ${going.join(", ")}` : "no wave goes on")
      + ` · ${ended} ended`;
    at("proofs").textContent = picture.proofs.join(", ");
  }

  function server(facts) {
    const made = make("li");
    const head = make("div", "line");
    const used = facts.unread ? `at least ${facts.used}` : facts.used;
    const slots = facts.allowed === null ? `${used} slots used`
      : `${used} of ${facts.allowed} slots`;
    head.append(make("b", "", facts.name), make("span", "soft", slots));
    const bar = draw("svg", {class: "bar", viewBox: "0 0 1000 10", preserveAspectRatio: "none",
                             role: "img", "aria-label": slots});
    const full = facts.allowed ?? Math.max(facts.used, 1);
    bar.append(draw("rect", {x: 0, y: 0, height: 10, class: "busy",
                             width: Math.min(1000, 1000 * facts.used / Math.max(1, full))}));
    const foot = make("div", "line");
    const isSlowed = facts.allowed !== null && facts.allowed !== facts.limit;
    const slowed = `${facts.is_ramp ? "ramp" : "slowed"}: ${facts.allowed} of ${facts.limit ?? "any"}`;
    const gate = {open: isSlowed ? slowed : "in reach", waiting: "waiting for it",
                  given_up: "GIVEN UP"}[facts.gate];
    const kinds = {open: isSlowed && !facts.is_ramp ? "doubt" : "good", waiting: "doubt", given_up: "bad"};
    foot.append(make("span", "soft", `${facts.done}/${facts.targets} done`),
                make("span", `badge ${kinds[facts.gate]}`, gate));
    made.append(head, bar, foot);
    for (const why of [facts.why, facts.unread]) if (why) made.append(make("p", "why", why));
    return made;
  }

  function failure(record) {
    const made = make("li");
    made.append(make("b", "", record.key), make("span", KINDS[record.result], record.result),
                make("span", "soft", `mount ${record.mount}`), make("span", "", record.message));
    return made;
  }

  function slow(record) {
    const made = make("li");
    made.append(make("b", "", record.key), make("span", "soft", record.phase.replaceAll("_", " ")),
                make("span", "", clock(now() - record.since)));
    if (record.overdue) made.append(make("span", "doubt", "over its deadline"));
    return made;
  }

  function tick() {
    if (picture === null) return;
    const left = picture.left === null ? "" : `, ${picture.left}`;
    at("clock").textContent = `${clock(now())}${left}`;
    at("slowest").replaceChildren(...picture.slowest.map(slow));
  }

  // --- the timeline -----------------------------------------------------------------------

  const TOP = 18;
  const FROZEN = 400; // bars in one path, which is then never touched again
  const STEPS = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];
  let phases = [];
  let lanes = []; // of every target: {group, row, phase, since, ended}; `ended`: if badly, how
  let groups = new Map(); // by server
  let changed = false;

  function begin(names) {
    phases = names;
    lanes = [];
    groups = new Map();
    at("timeline").replaceChildren();
    at("empty").hidden = false;
    at("legend").replaceChildren(
      ...names.filter(isDrawn).map((name) =>
        legend(`p-${name}`, 8, name.replaceAll("_", " "), SHAPES[name] ?? WHOLE)),
      ...ENDS.map((name) => legend(KINDS[name], 3, `ended as ${name}`)),
      legend("stop", 2, "asked to stop, or halted"));
  }

  function legend(kind, width, words, [top, height] = [0, 1]) {
    const made = make("span");
    const box = draw("svg", {viewBox: "0 0 8 8"});
    box.append(draw("rect", {class: kind, x: (8 - width) / 2, y: 8 * top, width, height: 8 * height}));
    made.append(box, words);
    return made;
  }

  function isDrawn(phase) {
    return phase !== "queued" && phase !== "done";
  }

  function groupOf(name) {
    let group = groups.get(name);
    if (group === undefined) {
      group = {name, keys: [], frozen: new Map(), open: new Map(), element: make("div")};
      group.head = make("h3", "", name);
      group.svg = draw("svg", {class: "lanes", role: "img", "aria-label": `Timeline of ${name}`,
                                height: TOP});
      group.axis = draw("g", {});
      group.bars = draw("g", {});
      group.labels = draw("g", {});
      group.ends = new Map(ENDS.map((name) => [name, draw("path", {class: `end ${KINDS[name]}`})]));
      group.svg.append(group.axis, group.bars, group.labels);
      group.element.append(group.head, group.svg);
      groups.set(name, group);
      at("timeline").append(group.element);
      sortGroups();
      at("empty").hidden = true;
    }
    return group;
  }

  function sortGroups() {
    const order = picture === null ? [] : picture.servers.map((facts) => facts.name);
    const place = (group) => (order.indexOf(group.name) + 1) || order.length + 1;
    const sorted = [...groups.values()].sort((one, other) => place(one) - place(other));
    at("timeline").replaceChildren(...sorted.map((group) => group.element));
  }

  function take(change) {
    const [place, phase, from, ...more] = change;
    let lane = lanes[place];
    if (lane === undefined) {
      const [key, name] = more;
      const group = groupOf(name);
      lane = lanes[place] = {group, row: group.keys.length, phase: "queued", since: from};
      group.keys.push(key);
    } else {
      if (isDrawn(lane.phase)) freeze(lane, from);
      if (more[0] === undefined || lane.ended === undefined) lane.endedAt = from;
      lane.ended = more[0]; // one that is taken up again has not ended
    }
    lane.phase = phases[phase];
    lane.since = from;
    changed = true;
  }

  // Where in its lane a phase's bar begins, and how high it is: nobody needs the colours.
  const SHAPES = {busy: [0.45, 0.1], submitting: [0.3, 0.4], in_doubt: [0.1, 0.35], collecting: [0.55, 0.35],
                  verifying: [0.2, 0.6], held: [0.1, 0.2], unmounting: [0.7, 0.2],
                  out_of_reach: [0, 1]};
  const WHOLE = [0.1, 0.8];

  function bar(lane, until) {
    const [top, height] = SHAPES[lane.phase] ?? WHOLE;
    const end = Math.max(until, lane.since + 0.02);
    return `M${lane.since} ${lane.row + top}H${end}v${height}H${lane.since}z`;
  }

  function freeze(lane, until) {
    const frozen = lane.group.frozen;
    let path = frozen.get(lane.phase);
    if (path === undefined || path.count >= FROZEN) {
      if (path !== undefined) path.element.setAttribute("d", path.text);
      path = {count: 0, text: "", element: draw("path", {class: `p-${lane.phase}`})};
      frozen.set(lane.phase, path);
      lane.group.bars.append(path.element);
    }
    path.count += 1;
    path.text += bar(lane, until);
    path.isNew = true;
  }

  function drawTimeline() {
    const until = Math.max(now(), 1);
    const open = new Map();
    for (const lane of lanes) {
      if (lane === undefined || !isDrawn(lane.phase)) continue;
      const found = open.get(lane.group) ?? new Map();
      found.set(lane.phase, (found.get(lane.phase) ?? "") + bar(lane, until));
      open.set(lane.group, found);
    }
    for (const group of groups.values()) drawGroup(group, open.get(group) ?? new Map(), until);
    if (changed) drawEnds();
    changed = false;
  }

  function drawEnds() { // as wide as on every other scale, however many targets there are
    const text = new Map();
    for (const lane of lanes) {
      if (lane?.ended === undefined) continue;
      const path = lane.group.ends.get(lane.ended);
      text.set(path, `${text.get(path) ?? ""}M${lane.endedAt} ${lane.row + 0.1}v0.8`);
    }
    for (const group of groups.values()) {
      for (const path of group.ends.values()) {
        path.setAttribute("d", text.get(path) ?? "");
        group.bars.append(path); // above all bars
      }
    }
  }

  function drawGroup(group, open, until) {
    for (const path of group.frozen.values()) {
      if (path.isNew) path.element.setAttribute("d", path.text);
      path.isNew = false;
    }
    for (const [phase, text] of open) {
      if (!group.open.has(phase)) {
        group.open.set(phase, draw("path", {class: `p-${phase}`}));
        group.bars.append(group.open.get(phase));
      }
      group.open.get(phase).setAttribute("d", text);
    }
    for (const [phase, element] of group.open) if (!open.has(phase)) element.setAttribute("d", "");
    const width = group.svg.clientWidth || 600;
    const count = group.keys.length;
    const height = count <= 40 ? 14 : count <= 100 ? 5 : 500 / count;
    const left = height >= 12 ? Math.min(220, Math.round(width * 0.3)) : 0;
    group.svg.setAttribute("height", TOP + count * height + 2);
    const scale = (width - left) / until;
    group.bars.setAttribute("transform", `translate(${left} ${TOP}) scale(${scale} ${height})`);
    drawAxis(group, left, scale, until, TOP + count * height);
    drawLabels(group, left, height);
  }

  function drawAxis(group, left, scale, until, bottom) {
    const step = STEPS.find((each) => each * scale >= 70) ?? 86400;
    const parts = [];
    for (let second = 0; second <= until; second += step) {
      const x = left + second * scale;
      parts.push(draw("path", {class: "axis", d: `M${x} ${TOP - 4}V${bottom}`}));
      if (x + 45 > left + until * scale) continue; // it would be cut off
      const label = draw("text", {x: x + 2, y: 11});
      label.textContent = clock(second);
      parts.push(label);
    }
    for (const [second, words] of picture?.stops ?? []) {
      const x = left + second * scale;
      const line = draw("path", {class: "stop", d: `M${x} 0V${bottom}`});
      const title = draw("title", {});
      title.textContent = `${words} at ${clock(second)}`;
      line.append(title);
      parts.push(line);
    }
    group.axis.replaceChildren(...parts);
  }

  function drawLabels(group, left, height) {
    if (left === 0) {
      group.labels.replaceChildren();
      return;
    }
    const letters = Math.floor(left / 6.6);
    if (group.labels.childElementCount === group.keys.length && group.letters === letters) return;
    group.letters = letters;
    group.labels.replaceChildren(...group.keys.map((key, row) => {
      const made = draw("text", {x: 0, y: TOP + row * height + 11});
      const title = draw("title", {});
      title.textContent = key;
      made.textContent = key.length <= letters ? key : `…${key.slice(1 - letters)}`;
      made.append(title);
      return made;
    }));
  }

  // --- the stream -------------------------------------------------------------------------

  const OFFLINE = "No connection to the run. What stands here may be old.";
  const REFUSED = {
    401: "This link is no longer valid: the page is served anew, with a new token. Open the link "
      + "that bulk-restore printed last. What stands here is old.",
    503: "Too many pages are open. This one waits for a place; what stands here may be old.",
  };
  const SOONEST_S = 2;
  const LATEST_S = 30;
  let online = false;
  let stream = null;
  let pause = SOONEST_S;

  function heard() {
    online = true;
    pause = SOONEST_S;
    at("offline").hidden = true;
  }

  function isOver() {
    return picture !== null && picture.state === "finished";
  }

  function listen() {
    stream = new EventSource("/events");
    stream.addEventListener("begin", (event) => { heard(); begin(JSON.parse(event.data)); });
    stream.addEventListener("changes", (event) => {
      heard();
      for (const change of JSON.parse(event.data)) take(change);
    });
    stream.addEventListener("picture", (event) => {
      heard();
      picture = JSON.parse(event.data);
      pictured = performance.now();
      show();
      changed = true;
    });
    stream.addEventListener("error", lost);
  }

  async function lost() {
    if (picture !== null) picture.now = now();
    pictured = performance.now();
    online = false;
    if (isOver()) { // the run has told everything
      stream.close();
      return;
    }
    const isRefused = stream.readyState === EventSource.CLOSED; // else it tries again by itself
    const words = (isRefused && REFUSED[await status()]) || OFFLINE;
    if (at("offline").textContent !== words) at("offline").textContent = words;
    at("offline").hidden = online;
    if (!isRefused) return;
    setTimeout(listen, pause * 1000);
    pause = Math.min(2 * pause, LATEST_S);
  }

  async function status() { // a stream that was refused does not say why
    try {
      return (await fetch("/events", {method: "HEAD"})).status;
    } catch {
      return 0;
    }
  }

  listen();
  setInterval(() => {
    if (document.hidden) return;
    tick();
    if (changed || (online && lanes.length && !isOver())) drawTimeline();
  }, 500);
  addEventListener("resize", () => { changed = true; });
})();
