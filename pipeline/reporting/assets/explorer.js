"use strict";
// The item explorer. Text from answers and items reaches the page through textContent alone.
(() => {
  const holder = document.getElementById("explorer-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  holder.remove();

  const PAGE = 30;
  const PAUSE = 120;  // milliseconds without a key before a search
  const ARMS = ["control", "treatment"];
  const { items, entries, scores, answers, passages } = data;
  const count = entries.item.length;
  const wishes = new Map(data.metrics.map((m) => [m.name, m]));
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en-US");

  function el(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  // ---- what an entry is --------------------------------------------------------------------------------------

  const OUTCOMES = { won: "won", lost: "lost", right: "both right", wrong: "both wrong", tied: "tied", unscored: "not scored" };
  const NEUTRAL = { won: "higher", lost: "lower", tied: "same" };  // of a metric that is neither good nor bad
  const named = (kind, metric) => (wishes.get(metric).wish === 0 && NEUTRAL[kind]) || OUTCOMES[kind];

  function judge(metric) {  // returns what says the outcome of entry n
    const control = scores.control[metric], treatment = scores.treatment[metric], { wish, share } = wishes.get(metric);
    const sign = wish || 1, good = wish > 0 ? 1 : 0;
    return (n) => {
      const a = control[n], b = treatment[n];
      if (a === null || b === null) return "unscored";
      const gain = (b - a) * sign;
      if (gain > 1e-9) return "won";
      if (gain < -1e-9) return "lost";
      if (!share || wish === 0) return "tied";
      return a === good ? "right" : a === 1 - good ? "wrong" : "tied";
    };
  }

  const positive = (arm, metric, n) => (scores[arm][metric]?.[n] ?? 0) > 0;
  const either = (metric) => (n) => positive("control", metric, n) || positive("treatment", metric, n);
  const only = (arm, metric) => (n) => positive(arm, metric, n) && !positive(arm === "control" ? "treatment" : "control", metric, n);
  function samples(arm, n) {
    const found = [];
    for (let i = answers[arm].first[n]; i < answers[arm].first[n + 1]; i++) found.push(i);
    return found;
  }
  const troubled = (n) => ARMS.some((arm) => samples(arm, n).some((i) => answers[arm].outcome[i] > 0));
  function differ(n) {
    const [a, b] = ARMS.map((arm) => answers[arm]), from = a.first[n], other = b.first[n], size = a.first[n + 1] - from;
    if (size !== b.first[n + 1] - other) return true;
    for (let i = 0; i < size; i++) if (a.text[from + i] !== b.text[other + i]) return true;
    return false;
  }

  const FLAGS = [
    ["abstained", "abstained, either arm", either("abstain_rate"), "abstain_rate"],
    ["abstained-control", "abstained, control only", only("control", "abstain_rate"), "abstain_rate"],
    ["abstained-treatment", "abstained, treatment only", only("treatment", "abstain_rate"), "abstain_rate"],
    ["unsupported", "unsupported, either arm", either("unsupported_rate"), "unsupported_rate"],
    ["unsupported-control", "unsupported, control only", only("control", "unsupported_rate"), "unsupported_rate"],
    ["unsupported-treatment", "unsupported, treatment only", only("treatment", "unsupported_rate"), "unsupported_rate"],
    ["false-answer", "answered though unanswerable", either("false_answer_rate"), "false_answer_rate"],
    ["unanswerable", "unanswerable items", (n) => items.unanswerable[entries.item[n]] === 1, null],
    ["troubled", "failed, truncated or refused", troubled, null],
    ["differ", "answers differ", differ, null],
  ].filter(([, , , metric]) => metric === null || scores.control[metric]);

  // ---- search ------------------------------------------------------------------------------------------------

  const index = { byItem: [], byEntry: [], byPassage: [] };
  const indexing = (function* () {  // in small steps, so that it can be built while nothing else is to do
    for (const text of passages) if (index.byPassage.push(text.toLowerCase()) % 100 === 0) yield;
    for (let i = 0; i < items.id.length; i++) {
      if (index.byItem.push([items.id[i], items.question[i] || "", ...(items.golds[i] || [])].join("\n").toLowerCase()) % 500 === 0) yield;
    }
    for (let n = 0; n < count; n++) {
      const said = ARMS.flatMap((arm) => answers[arm].text.slice(answers[arm].first[n], answers[arm].first[n + 1]));
      if (index.byEntry.push(said.join("\n").toLowerCase()) % 200 === 0) yield;
    }
  })();
  const idle = window.requestIdleCallback || ((step) => setTimeout(step, 30));
  function buildInIdleTime(deadline) {
    do {
      if (indexing.next().done) return;
    } while (deadline && deadline.timeRemaining() > 4);
    idle(buildInIdleTime);
  }

  function matcher(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return () => true;
    while (!indexing.next().done);  // what idle time has not come to yet
    const { byItem, byEntry, byPassage } = index;
    const inPassage = words.map((word) => byPassage.map((text) => text.includes(word)));
    const inItem = words.map((word, w) => byItem.map((text, i) => text.includes(word) || (items.passage[i] !== null && inPassage[w][items.passage[i]])));
    return (n) => words.every((word, w) => inItem[w][entries.item[n]] || byEntry[n].includes(word));
  }

  // ---- word-level difference ---------------------------------------------------------------------------------

  const cut = (text) => text.match(/\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}_]+|[^]/gu) || [];

  function difference(before, after) {
    const a = cut(before), b = cut(after);
    let head = 0, tail = 0;
    while (head < a.length && head < b.length && a[head] === b[head]) head++;
    while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
    const midA = a.slice(head, a.length - tail), midB = b.slice(head, b.length - tail);
    const sameA = new Uint8Array(midA.length), sameB = new Uint8Array(midB.length);
    if (midA.length * midB.length <= 4e6) {  // longest common subsequence; beyond that the middles count as different
      const width = midB.length + 1, table = new Uint16Array((midA.length + 1) * width);
      for (let i = midA.length - 1; i >= 0; i--) {
        for (let j = midB.length - 1; j >= 0; j--) {
          table[i * width + j] = midA[i] === midB[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
        }
      }
      for (let i = 0, j = 0; i < midA.length && j < midB.length;) {
        if (midA[i] === midB[j]) { sameA[i++] = 1; sameB[j++] = 1; }
        else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
        else j++;
      }
    }
    const pieces = (middle, same, side) => [[side.slice(0, head).join(""), false], ...join(middle, same), [side.slice(side.length - tail).join(""), false]].filter(([t]) => t);
    return [pieces(midA, sameA, a), pieces(midB, sameB, b)];
  }

  function join(tokens, same) {
    const pieces = [];
    tokens.forEach((token, i) => {
      const last = pieces[pieces.length - 1];
      const between = same[i] && !token.trim() && i > 0 && i + 1 < tokens.length && !same[i - 1] && !same[i + 1];  // a space inside a changed phrase
      const differs = !same[i] || between;
      if (last && last[1] === differs) last[0] += token;
      else pieces.push([token, differs]);
    });
    return pieces;
  }

  const marked = (pieces) => pieces.map(([text, differs]) => (differs && text.trim() ? el("mark", null, text) : document.createTextNode(text)));

  // ---- one entry ---------------------------------------------------------------------------------------------

  const show = (value, share) => (value === null || value === undefined ? "–" : share ? String(Math.round(value * 1000) / 1000) : String(value));

  function summary(n, kind, metric) {
    const i = entries.item[n];
    const first = (arm) => {
      const at = answers[arm].first[n];
      if (at >= answers[arm].first[n + 1]) return el("span", { class: "none" }, "no answer on record");
      const text = answers[arm].text[at].slice(0, 200);
      return answers[arm].outcome[at] > 1 && !text ? el("span", { class: "none" }, data.outcomes[answers[arm].outcome[at]]) : text;
    };
    return el("summary", null,
      el("span", { class: `badge ${kind}` }, named(kind, metric)),
      el("span", { class: "question", dir: "auto" }, items.question[i] === null ? items.id[i] : items.question[i].slice(0, 400)),
      el("span", { class: "peek control", dir: "auto" }, first("control")),
      el("span", { class: "peek treatment", dir: "auto" }, first("treatment")));
  }

  const inWord = (text, at) => at > 0 && at < text.length && /[\p{L}\p{N}]{2}/u.test(text.slice(at - 1, at + 1));

  function whole(text, gold, from) {  // where `gold` stands in `text` as whole words, or -1
    for (let at = text.indexOf(gold, from); at >= 0; at = text.indexOf(gold, at + 1)) if (!inWord(text, at) && !inWord(text, at + gold.length)) return at;
    return -1;
  }

  function passage(text, golds) {
    const box = el("div", { class: "text passage", dir: "auto", role: "group", "aria-label": "Passage" });
    const wanted = golds.filter((g) => g.trim());
    for (let from = 0; from < text.length;) {
      const hits = wanted.map((g) => [whole(text, g, from), g]).filter(([at]) => at >= 0).sort((a, b) => a[0] - b[0] || b[1].length - a[1].length);
      const [at, gold] = hits[0] || [text.length, ""];
      box.append(text.slice(from, at));
      if (gold) box.append(el("mark", { class: "gold" }, gold));
      from = at + gold.length;
    }
    return box;
  }

  function source(arm, at) {
    const a = answers[arm];
    const raw = a.file.length && a.file[at] !== null ? `${a.files[a.file[at]]}:${a.raw_line[at]}` : null;  // its path names the unit
    const parts = [["request ", el("code", null, a.custom_id[at])], raw || (a.units[a.unit[at]] ? `unit ${a.units[a.unit[at]]}` : null), `predictions.csv:${a.line[at]}`,
      a.tokens[at] === null ? null : `${number.format(a.tokens[at])} completion tokens`];
    return el("p", { class: "source" }, parts.filter(Boolean).flatMap((part, i) => (i ? [" · ", part] : part)));
  }

  function answer(arm, at, pieces) {
    const a = answers[arm], box = el("div", { class: `answer ${arm}`, "data-arm": data.arms[arm] });
    if (a.outcome[at] > 0) box.append(el("p", { class: "trouble" }, data.outcomes[a.outcome[at]] + (a.remark[at] ? `: ${a.remark[at]}` : "")));
    else if (a.remark[at]) box.append(el("p", { class: "trouble" }, a.remark[at]));
    box.append(el("div", { class: "text", dir: "auto", role: "group", "aria-label": `Answer of the ${arm}` }, a.text[at] ? marked(pieces) : el("span", { class: "none" }, "empty")));
    if (a.cut[at]) box.append(el("p", { class: "source" }, `first ${number.format(data.answers.cap)} of ${number.format(a.cut[at])} characters; the rest is in predictions.csv, line ${a.line[at]}`));
    box.append(source(arm, at));
    return box;
  }

  function body(n) {
    const i = entries.item[n], box = el("div", { class: "body" });
    const about = [items.dataset[i], items.id[i], `${items.type[i]} book`, data.temps.length > 1 ? `temp ${data.temps[entries.temp[n]]}` : null, items.unanswerable[i] ? "unanswerable" : null];
    const meta = items.meta[i] === null ? [] : Object.entries(data.items.metas[items.meta[i]]).map(([k, v]) => `${k}: ${v}`);
    box.append(el("p", { class: "about" }, el("bdi", null, [...about.filter(Boolean), ...meta].join(" · "))));
    if ((items.question[i] || "").length > 400) box.append(el("div", { class: "text", dir: "auto" }, items.question[i]));
    for (const [role, text] of items.messages[i] || []) box.append(el("div", { class: "text", dir: "auto" }, el("b", null, role + ": "), text));
    const golds = items.golds[i];
    if (golds) box.append(el("p", { class: "golds" }, el("b", null, "Gold "), golds.length ? golds.flatMap((g, k) => [k ? " · " : "", el("bdi", null, g.slice(0, 2000))]) : "none: the passage does not say"));
    if (items.passage[i] !== null) box.append(el("details", { class: "inner", open: passages[items.passage[i]].length < 1500 }, el("summary", null, "Passage"), passage(passages[items.passage[i]], golds || [])));
    const [left, right] = ARMS.map((arm) => samples(arm, n));
    const grid = el("div", { class: "sides" }, ARMS.map((arm) => el("h3", { class: arm }, el("bdi", null, data.arms[arm]), arm === data.arms[arm] ? null : el("small", null, ` ${arm}`))));
    for (let k = 0; k < Math.max(left.length, right.length); k++) {
      const [a, b] = [left[k], right[k]];
      const [x, y] = a !== undefined && b !== undefined ? difference(answers.control.text[a], answers.treatment.text[b])
        : [a, b].map((at, side) => [[at === undefined ? "" : answers[ARMS[side]].text[at], false]]);
      grid.append(a === undefined ? el("div", { class: "answer control none" }, "no answer on record") : answer("control", a, x),
        b === undefined ? el("div", { class: "answer treatment none" }, "no answer on record") : answer("treatment", b, y));
    }
    box.append(grid);
    const scored = data.metrics.filter((m) => ARMS.some((arm) => scores[arm][m.name][n] !== null));
    box.append(el("div", { class: "wide", role: "group", "aria-label": "Scores of this item" }, el("table", { class: "scores" }, el("caption", { class: "hidden" }, "Scores of this item"),
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "arm"), scored.map((m) => el("th", { scope: "col" }, m.name.replace(/_rate$/, "").replace(/_/g, " "))))),
      el("tbody", null, ARMS.map((arm) => el("tr", null, el("th", { scope: "row", class: arm }, arm), scored.map((m) => el("td", null, show(scores[arm][m.name][n], m.share)))))))));
    return box;
  }

  // ---- filters, list, pages ----------------------------------------------------------------------------------

  const form = $("filters"), list = $("entries"), status = $("status");
  const state = { page: 0, found: [] };

  function options(id, pairs) {
    $(id).append(...pairs.map(([value, label]) => el("option", { value }, label)));
    $(id).closest("label").hidden = pairs.length < 2;
  }
  const distinct = (values) => [...new Set(values)].sort();
  options("f-metric", data.metrics.map((m) => [m.name, m.name]));
  options("f-dataset", [["", "all"], ...distinct(items.dataset).map((d) => [d, d])].filter((_, i, all) => all.length > 2 || i > 0));
  options("f-type", [["", "all"], ...distinct(items.type).map((t) => [t, `${t} book`])].filter((_, i, all) => all.length > 2 || i > 0));
  options("f-temp", data.temps.map((t, i) => [String(i), t]));
  options("f-flag", [["", "any"], ...FLAGS.map(([value, label]) => [value, label])]);
  const topics = new Map();
  for (const meta of items.metas) for (const [k, v] of Object.entries(meta)) topics.set(k, (topics.get(k) || new Set()).add(v));
  options("f-meta", [["", "any"], ...[...topics].flatMap(([k, values]) => (values.size > 60 ? [] : [...values].sort().map((v) => [JSON.stringify([k, v]), `${k}: ${v}`])))]);

  function preset() {
    $("f-metric").value = data.primary;
    $("f-temp").value = String(data.temp);
  }

  function selected() {
    return { metric: $("f-metric").value, dataset: $("f-dataset").value, type: $("f-type").value, temp: $("f-temp").value, flag: $("f-flag").value,
      meta: $("f-meta").value, sort: $("f-sort").value, show: form.querySelector("input[name=show]:checked").value, q: $("f-q").value };
  }

  function filter() {
    const want = selected(), match = matcher(want.q), outcome = judge(want.metric);
    const flag = FLAGS.find(([value]) => value === want.flag)?.[2];
    const temp = data.temps.length > 1 ? Number(want.temp) : -1;
    const meta = want.meta ? JSON.parse(want.meta) : null;
    const metaFits = meta && items.metas.map((m) => m[meta[0]] === meta[1]);
    const several = $("f-dataset").options.length > 1, kinds = $("f-type").options.length > 1;
    const counts = { all: 0, won: 0, lost: 0, right: 0, wrong: 0, tied: 0 };
    const found = [];
    for (let n = 0; n < count; n++) {
      const i = entries.item[n];
      if (several && want.dataset && items.dataset[i] !== want.dataset) continue;
      if (kinds && want.type && items.type[i] !== want.type) continue;
      if (temp >= 0 && entries.temp[n] !== temp) continue;
      if (metaFits && !(items.meta[i] !== null && metaFits[items.meta[i]])) continue;
      if (flag && !flag(n)) continue;
      if (!match(n)) continue;
      const kind = outcome(n);
      counts.all++;
      counts[kind]++;
      if (want.show === "all" || want.show === kind) found.push(n);
    }
    if (want.sort) {
      const sign = (want.sort === "loss" ? 1 : -1) * (wishes.get(want.metric).wish || 1);
      const [before, after] = ARMS.map((arm) => scores[arm][want.metric]);
      const change = Float64Array.from(before, (value, n) => (value === null || after[n] === null ? 0 : after[n] - value) * sign);
      found.sort((a, b) => change[a] - change[b] || a - b);
    }
    state.found = found;
    for (const input of form.querySelectorAll("input[name=show]")) {
      const chip = input.parentElement, kind = input.value;
      chip.querySelector(".count").textContent = number.format(counts[kind]);
      if (kind !== "all") chip.querySelector(".name").textContent = named(kind, want.metric);
      chip.hidden = !["all", "won", "lost"].includes(kind) && !counts[kind] && !input.checked;
    }
    state.page = 0;
    remember(want);
    render();
  }

  // The choice stands in the address, so that a link to these items can be sent with the file.
  const MARK = "#items:";
  const fields = { metric: "f-metric", dataset: "f-dataset", type: "f-type", temp: "f-temp", flag: "f-flag", meta: "f-meta", sort: "f-sort", q: "f-q" };
  const plain = () => ({ metric: data.primary, temp: String(data.temp), show: "all" });

  function remember(want) {
    const kept = Object.entries(want).filter(([key, value]) => value && value !== plain()[key]);
    if (!kept.length && !location.hash.startsWith(MARK)) return;
    try {
      history.replaceState(null, "", kept.length ? MARK + new URLSearchParams(kept) : "#items");
    } catch { /* shown inside another page, which keeps the address for itself */ }
  }

  function recall() {
    if (!location.hash.startsWith(MARK)) return;
    for (const [key, value] of new URLSearchParams(location.hash.slice(MARK.length))) {
      if (key === "show") for (const input of form.querySelectorAll("input[name=show]")) input.checked = input.value === value;
      else if (fields[key]) $(fields[key]).value = value;
    }
    if (!form.querySelector("input[name=show]:checked")) form.querySelector("input[value=all]").checked = true;
    for (const select of form.querySelectorAll("select")) if (select.selectedIndex < 0 && select.options.length) select.selectedIndex = 0;
    $("items").scrollIntoView();
  }

  function render() {
    const from = state.page * PAGE, shown = state.found.slice(from, from + PAGE), metric = $("f-metric").value, outcome = judge(metric);
    list.replaceChildren(...shown.map((n) => {
      const entry = el("details", { class: "entry" }, summary(n, outcome(n), metric));
      entry.addEventListener("toggle", () => {
        if (!entry.open || entry.querySelector(".body")) return;
        entry.append(body(n));
        for (const box of entry.querySelectorAll(".text, .wide")) {  // what scrolls can be reached by keyboard
          if (box.scrollHeight > box.clientHeight || box.scrollWidth > box.clientWidth) box.tabIndex = 0;
        }
      });
      return el("li", null, entry);
    }));
    status.textContent = state.found.length ? `${number.format(from + 1)}–${number.format(from + shown.length)} of ${number.format(state.found.length)}` : "No item fits.";
    $("previous").disabled = from === 0;
    $("next").disabled = from + PAGE >= state.found.length;
  }

  function turn(by) {
    state.page += by;
    render();
    list.querySelector("summary")?.focus({ preventScroll: true });
    $("items").scrollIntoView({ block: "start" });
  }
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  let waiting = 0;
  function settle() {
    clearTimeout(waiting);
    waiting = 0;
    filter();
    list.setAttribute("aria-busy", "false");
  }
  form.addEventListener("input", (event) => {
    if (event.target.id !== "f-q") return settle();
    clearTimeout(waiting);  // typing goes on: search when it pauses
    list.setAttribute("aria-busy", "true");
    waiting = setTimeout(settle, PAUSE);
  });
  form.addEventListener("change", () => { if (waiting) settle(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); settle(); });
  form.addEventListener("reset", () => setTimeout(() => { preset(); settle(); }));
  window.addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("main > section > details")) part.open = true; });
  preset();
  recall();
  settle();
  idle(buildInIdleTime);
  document.documentElement.dataset.explorer = "ready";
})();
