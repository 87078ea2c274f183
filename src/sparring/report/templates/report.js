"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const hidden = new Set();

  // Charts name colours as var(--x): look them up, so that one palette serves the page and its charts.
  const coloured = (value, css) => {
    if (typeof value === "string" && value.startsWith("var(--")) return css.getPropertyValue(value.slice(4, -1)).trim();
    if (Array.isArray(value)) return value.map((item) => coloured(item, css));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, css)]));
    return value;
  };

  // Reading Plotly's megabytes takes most of a second: the page is shown first, and they are read while nobody waits.
  const load = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  };
  addEventListener("load", () => (window.requestIdleCallback ?? setTimeout)(load));

  // A chart is drawn when it comes near, so that the page shows at once; then again when its looks change.
  const charts = document.querySelectorAll("[data-chart]");
  const drawn = new Set();
  const draw = (places = drawn) => {
    load();
    const css = getComputedStyle(root);
    const mouse = matchMedia("(hover: hover)").matches;
    for (const place of places) {
      drawn.add(place);
      const { data, layout } = coloured(specs[place.dataset.chart], css);
      for (const trace of data) trace.visible = !(trace.meta && hidden.has(trace.meta.row));
      layout.dragmode = mouse ? "zoom" : false; // on a phone a finger on a chart must scroll the page
      Plotly.react(place, data, layout, { responsive: true, displayModeBar: false });
    }
  };

  const watcher = new IntersectionObserver(
    (seen) => {
      const near = seen.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
      for (const place of near) watcher.unobserve(place);
      draw(near);
    },
    { rootMargin: "600px" },
  );
  for (const place of charts) watcher.observe(place);

  const keys = document.querySelectorAll("[data-row]");
  for (const key of keys)
    key.addEventListener("click", () => {
      const row = Number(key.dataset.row);
      if (!hidden.delete(row)) hidden.add(row);
      for (const other of keys)
        if (other.dataset.row === key.dataset.row) other.setAttribute("aria-pressed", String(!hidden.has(row)));
      draw();
    });

  const valueOf = (row, column, numeric) => {
    const text = row.cells[column].dataset.sort ?? "";
    return numeric ? (text === "" ? NaN : Number(text)) : text;
  };

  // What is missing stays last, whichever way the rest is sorted.
  const compare = (a, b, way) => {
    if (typeof a === "string") return way * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
    return way * (a < b ? -1 : a > b ? 1 : 0);
  };

  const sort = (header) => {
    const before = header.getAttribute("aria-sort");
    const way = (before ? before === "descending" : header.dataset.first === "ascending") ? 1 : -1;
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const body = header.closest("table").tBodies[0];
    const numeric = header.classList.contains("num");
    const keyed = [...body.rows].map((row) => [valueOf(row, header.cellIndex, numeric), row]);
    const last = (row) => Number(row.classList.contains("untrusted")); // whatever its figure, nobody is to trust it
    body.append(
      ...keyed.sort((a, b) => last(a[1]) - last(b[1]) || compare(a[0], b[0], way)).map((pair) => pair[1]),
    );
    regroup(body);
  };

  // A name that stands in the row above already is printed faintly.
  const regroup = (body) => {
    let above = null;
    for (const row of body.rows) {
      if (row.hidden) continue;
      row.classList.toggle("again", row.cells[0].dataset.sort === above);
      above = row.cells[0].dataset.sort;
    }
  };

  for (const choice of document.querySelectorAll("[data-filter]")) {
    const table = choice.closest(".filter").nextElementSibling.querySelector("table");
    choice.closest(".filter").hidden = false;
    choice.addEventListener("change", () => {
      for (const row of table.tBodies[0].rows)
        row.hidden = choice.value !== "" && row.cells[choice.dataset.filter].dataset.sort !== choice.value;
      regroup(table.tBodies[0]);
    });
  }

  for (const button of document.querySelectorAll("table.sortable thead button"))
    button.addEventListener("click", () => sort(button.closest("th")));

  // A link to something folded unfolds it, on this page or from elsewhere.
  const unfold = (hash) => {
    const part = document.getElementById(decodeURIComponent(hash.slice(1)));
    if (part?.matches("details")) part.open = true;
  };
  for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener("click", () => unfold(link.hash));
  unfold(location.hash);

  // What scrolls can be scrolled by keyboard and fades where there is more; what does not is no stop for the Tab key.
  const measure = (part) => {
    const wide = part.scrollWidth > part.clientWidth + 1;
    if (wide || part.scrollHeight > part.clientHeight + 1) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
    part.classList.toggle("further", wide && part.scrollLeft + part.clientWidth < part.scrollWidth - 1);
  };
  const resized = new ResizeObserver((entries) => entries.forEach((entry) => measure(entry.target)));
  for (const part of document.querySelectorAll(".scroll, pre")) {
    resized.observe(part);
    part.addEventListener("scroll", () => measure(part), { passive: true });
  }

  // On paper the page is light, narrow and open where something is wrong, and its charts must be drawn anew for that.
  const opened = [];
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    const folded = document.querySelectorAll("details:not([open])");
    for (const part of [...folded].filter((part) => part.matches(":not(.numbers):not(.audit), .audit.failed"))) {
      part.open = true;
      opened.push(part);
    }
    draw(charts);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    for (const part of opened.splice(0)) part.open = false;
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
})();
