/* What happens in the browser alone: labels of sliders, selection by click, the address. */
(function () {
  const units = (value) => {
    for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
      if (value >= size) return Number((value / size).toPrecision(3)) + unit;
    }
    return String(Math.round(value));
  };
  window.dashMantineFunctions = Object.assign(window.dashMantineFunctions || {}, {
    count: (exponent) => units(10 ** exponent),
    bytes: (exponent) => Number((10 ** exponent / 2 ** 20).toPrecision(3)) + " MiB",
    milliseconds: (exponent) => Number((10 ** exponent / 1e3).toPrecision(3)) + " ms",
  });

  // Plotly does not say whether shift was held, so the last press of the pointer does.
  let shift = false;
  window.addEventListener("pointerdown", (event) => { shift = event.shiftKey; }, true);

  // What an address need not say.
  const DEFAULTS = { metric: "mult_adds", against: "trials", axis: "mult_adds", rows: "differences" };
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
      /** The address bar follows the view, and so do the links to the other pages. */
      address: (view, ids) => {
        const query = new URLSearchParams(view).toString().replaceAll("%2C", ",");
        window.history.replaceState(window.history.state, "", `${location.pathname}?${query}`);
        return ids.map((id) => `/${id.nav}?${query}`);
      },
    },
  });
})();
