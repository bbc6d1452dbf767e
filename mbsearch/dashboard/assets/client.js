/* What happens in the browser alone: texts of sliders, selection, filters, the address. */
(function () {
  const exponents = Object.entries(window.mbsearchUnits).map(([unit, text]) => [unit, (e) => text(10 ** e)]);
  window.dashMantineFunctions = Object.assign(window.dashMantineFunctions || {}, Object.fromEntries(exponents));

  // Plotly does not say whether shift was held, so the last press of the pointer does.
  let shift = false;
  window.addEventListener("pointerdown", (event) => { shift = event.shiftKey; }, true);

  let current = null; // the view, once the page is drawn
  const readQuery = () => Object.fromEntries(new URLSearchParams(location.search));
  const show = (fields) => window.dash_clientside.set_props("view", { data: fields });
  const select = (trial) => {
    const { trial: _, other: __, ...rest } = current || readQuery();
    show(trial === undefined ? rest : { ...rest, trial });
  };
  const frontPlot = () => document.querySelector("#front .js-plotly-plot");

  // Back and Forward between selections of one page.
  window.addEventListener("popstate", () => {
    if (current && current.study === readQuery().study) show(readQuery());
  });

  window.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, [role=listbox], [role=option]");
    if (event.key === "Escape" && frontPlot() && current?.trial && !typing) select();
  });

  document.addEventListener("click", (event) => {
    const clears = event.target.closest("[data-clear]")?.dataset.clear;
    if (clears) clearControls(clears.split(","));
    const row = event.target.closest("#front-table tbody tr, #lasso tbody tr");
    const link = row?.querySelector("a");
    if (link && !event.target.closest("a")) select(new URL(link.href).searchParams.get("trial"));
  });

  /** The control of a field: its element, whose id Dash writes as JSON. */
  const controlOf = (field) => {
    const elements = Array.from(document.querySelectorAll(`[id*='"control":"${field}"']`));
    return elements.map((element) => element.id).filter((id) => id.endsWith("}")).map(JSON.parse)[0];
  };
  const clearControls = (fields) => {
    for (const field of fields) {
      const id = controlOf(field);
      if (id) window.dash_clientside.set_props(id, { value: id.log ? id.top : [] });
    }
  };

  // The budget's line in the plot can be dragged; the slider is the same by keyboard.
  const GRIP = 7; // pixels
  let dragged = null; // the cost under the pointer
  const lineUnder = (event) => {
    const plot = frontPlot(), line = plot?.layout?.shapes?.[1];
    if (!line || event.pointerType === "touch" || !event.target.closest?.("#front .nsewdrag")) return null;
    if (plot._hoverdata?.length) return null; // a network beside the line
    const axis = plot._fullLayout.xaxis, left = event.target.getBoundingClientRect().left;
    return Math.abs(event.clientX - left - axis.d2p(line.x0)) <= GRIP ? plot : null;
  };
  window.addEventListener("pointermove", (event) => {
    if (dragged === null) {
      const drag = document.querySelector("#front .nsewdrag");
      if (drag) drag.style.cursor = lineUnder(event) ? "ew-resize" : "";
      return;
    }
    const plot = frontPlot(), axis = plot._fullLayout.xaxis;
    const left = plot.querySelector(".nsewdrag").getBoundingClientRect().left;
    dragged = axis.p2d(Math.min(axis._length, Math.max(0, event.clientX - left)));
    const shapes = plot.layout.shapes.map((shape, i) => ({ ...shape, x0: dragged, x1: i ? dragged : shape.x1 }));
    window.Plotly.relayout(plot, { shapes });
  }, true);
  // Plotly listens to mouse events, which follow those of the pointer.
  let held = null;
  window.addEventListener("mousedown", (event) => {
    const plot = event.button === 0 ? lineUnder(event) : null;
    if (!plot) return;
    dragged = plot.layout.shapes[1].x0;
    event.stopPropagation();
    event.preventDefault();
  }, true);
  window.addEventListener("pointerup", (event) => {
    if (dragged !== null) {
      const id = controlOf(document.querySelector("#budgets [data-axis]")?.dataset.axis);
      if (id) window.dash_clientside.set_props(id, { value: Math.log10(dragged) });
      dragged = held = null;
      return;
    }
    const still = held && Math.hypot(event.clientX - held.x, event.clientY - held.y) < 4;
    const plot = held?.inside && frontPlot(); // plotly covers the page while the button is down
    if (plot && still && !plot._hoverdata?.length && current?.trial) select();
    held = null;
  }, true);
  window.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, inside: event.target.closest?.("#front .nsewdrag") };
  }, true);

  // Mantine's sliders announce a number without its unit.
  new MutationObserver(() => {
    for (const thumb of document.querySelectorAll("[data-unit] [role=slider]")) {
      const unit = thumb.closest("[data-unit]").dataset.unit;
      const text = window.mbsearchUnits[unit](10 ** thumb.ariaValueNow);
      if (thumb.ariaValueText !== text) thumb.ariaValueText = text;
    }
  }).observe(document.documentElement, { subtree: true, childList: true, attributeFilter: ["aria-valuenow"] });

  const REST = 150; // milliseconds
  let settling = {};

  // What an address need not say.
  const DEFAULTS = { accuracy: "float32", metric: "mult_adds", against: "trials", axis: "mult_adds", rows: "differences" };
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const skip = () => window.dash_clientside.no_update;

  window.dash_clientside = Object.assign(window.dash_clientside || {}, {
    mbsearch: {
      /** The controls of a page, gathered into the fields of its address. */
      collect: (plain, sliders, view) => {
        const fields = { ...view };
        for (const { id, value } of window.dash_clientside.callback_context.inputs_list.flat()) {
          if (!(id.control in view) && (value === id.start || value === DEFAULTS[id.control])) continue;
          const text = id.log
            ? (value >= id.top ? "" : String(Math.round(10 ** value)))
            : Array.isArray(value) ? value.join(",") : String(value ?? "");
          if (text) fields[id.control] = text; else delete fields[id.control];
        }
        return same(fields, view) ? skip() : fields;
      },
      /** A click selects a network, a click with shift the one to compare it with. */
      pick: (click, view) => {
        const trial = click?.points?.[0]?.customdata?.[0];
        if (trial === undefined) return skip();
        const field = shift && view.trial ? "other" : "trial";
        const fields = { ...view, [field]: String(trial) };
        if (fields.other === fields.trial) delete fields.other;
        return same(fields, view) ? skip() : fields;
      },
      /** A fresh figure, with the zoom and the hidden traces of the one on the page. */
      keep: (fresh) => {
        const plot = document.querySelector("#front .js-plotly-plot");
        if (!fresh) return skip();
        if (!plot || plot.layout.uirevision !== fresh.layout.uirevision) return fresh;
        for (const axis of ["xaxis", "yaxis"]) {
          const { range, autorange } = plot.layout[axis];
          if (autorange === false) Object.assign(fresh.layout[axis], { range, autorange });
        }
        const hidden = plot.data.filter((trace) => trace.visible === "legendonly");
        const names = new Set(hidden.map((trace) => trace.legendgroup || trace.name));
        for (const trace of fresh.data) {
          if (names.has(trace.legendgroup || trace.name)) trace.visible = "legendonly";
        }
        return fresh;
      },
      /** What is drawn, once it stays: the texts wait until a dragged budget rests. */
      settle: (drawn) => new Promise((resolve) => {
        clearTimeout(settling.timer);
        settling.give?.(skip());
        settling = { give: resolve, timer: setTimeout(() => resolve(drawn), REST) };
      }),
      /** The address bar follows the view, and so do the links to the other pages. */
      address: (view, ids) => {
        const query = new URLSearchParams(view).toString().replaceAll("%2C", ",");
        const before = readQuery();
        // Another selection is a place to go back to; other changes are not.
        const chosen = current && ["trial", "other"].some((field) => before[field] !== view[field]);
        const write = chosen ? "pushState" : "replaceState";
        current = view;
        window.history[write](window.history.state, "", `${location.pathname}?${query}`);
        return ids.map((id) => `${id.nav}?${query}`);
      },
    },
  });
})();
