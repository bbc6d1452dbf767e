/* What every plot does in a browser: ticks at each zoom, labels that do not overlap, touch scrolls. */
(function () {
  const shortened = (value, digits) => Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
  /** Texts of a cost by its unit: the names that `mbsearch.cost.units` gives them. */
  const UNITS = {
    count: (value, digits = 3) => {
      for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
        if (value >= size) return shortened(value / size, digits) + unit;
      }
      return String(Math.round(value));
    },
    bytes: (value, digits = 3) => shortened(value / (value < 2 ** 20 ? 2 ** 10 : 2 ** 20), digits) + (value < 2 ** 20 ? " KiB" : " MiB"),
    milliseconds: (value, digits = 3) => shortened(value / 1e3, digits) + " ms",
  };
  const ROOM = 56; // pixels for the text of a tick

  /** Round values of an interval: 1, 2, 5, ...; at least three, at most one for each `ROOM`. */
  const ticks = (low, high, unit, pixels) => {
    const most = Math.max(3, Math.floor(pixels / ROOM));
    const inside = (values) => values.filter((value) => low <= value && value <= high);
    const powers = (base, factors) => {
      const [first, last] = [low, high].map((end) => Math.floor(Math.log(end) / Math.log(base)));
      const exponents = Array.from({ length: last - first + 1 }, (_, i) => first + i);
      return inside(exponents.flatMap((e) => factors.map((factor) => factor * base ** e)));
    };
    const ladder = unit === "bytes" ? [powers(2, [1]), powers(4, [1]), powers(16, [1])] : [powers(10, [1, 2, 5]), powers(10, [1])];
    const found = ladder.find((values) => values.length >= 3 && values.length <= most);
    if (found) return found;
    const scale = unit === "bytes" ? (low < 2 ** 20 ? 2 ** 10 : 2 ** 20) : 1;
    for (let power = Math.ceil(Math.log10((high - low) / scale)); ; power--) {
      for (const factor of [5, 2, 1]) {
        const step = factor * 10 ** power * scale, first = Math.ceil(low / step);
        const values = Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
        if (values.length >= 3) return values;
      }
    }
  };

  /** Changes of the layout that the present zoom and size need; empty if there are none. */
  const adjustments = (plot) => {
    const changes = {}, axis = plot._fullLayout.xaxis, unit = plot.layout.meta?.unit;
    if (unit && axis?.type === "log" && axis._length > 0) {
      const [low, high] = axis.range.map((exponent) => 10 ** exponent);
      const shown = (axis.tickvals || []).filter((value) => low <= value && value <= high);
      const wanted = ticks(low, high, unit, axis._length);
      if (String(shown) !== String(wanted)) {
        changes["xaxis.tickvals"] = wanted;
        changes["xaxis.ticktext"] = wanted.map((value) => UNITS[unit](value, 6));
      }
    }
    // A drag on touch would trap the page's scrolling; the buttons zoom.
    if (matchMedia("(pointer: coarse)").matches && plot._fullLayout.dragmode) changes.dragmode = false;
    return changes;
  };

  /** Hide labels of points that leave the plot, or overlap an earlier label or another point. */
  const declutter = (plot) => {
    const area = plot.querySelector(".nsewdrag")?.getBoundingClientRect();
    const boxes = (from, selector) => Array.from(from.querySelectorAll(selector), (each) => each.getBoundingClientRect());
    const traces = Array.from(plot.querySelectorAll(".scatterlayer .trace")).filter((trace) => trace.querySelector(".textpoint"));
    const points = traces.map((trace) => boxes(trace, ".point"));
    const kept = boxes(plot, ".annotation-text-g");
    const overlap = (a, b) => a.right > b.left && a.left < b.right && a.bottom > b.top && a.top < b.bottom;
    traces.forEach((trace, i) => trace.querySelectorAll(".textpoint text").forEach((text, j) => {
      const box = text.getBoundingClientRect();
      const others = points.flatMap((each, k) => (k === i ? each.filter((_, own) => own !== j) : each));
      const inside = area && box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom;
      const shown = inside && ![...kept, ...others].some((other) => overlap(box, other));
      text.style.visibility = shown ? "" : "hidden";
      if (shown) kept.push(box);
    }));
  };

  function follow() {
    // Points drawn by WebGL lie below lines and labels, which are SVG.
    this.querySelector(".svg-container").style.isolation = "isolate";
    Object.assign(this.querySelector(".gl-container").style, { position: "relative", zIndex: -1 });
    const changes = adjustments(this);
    if (Object.keys(changes).length) window.Plotly.relayout(this, changes);
    else declutter(this);
  }
  const watch = () => {
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      if (!plot.on || !plot._fullLayout || plot._ev.listeners("plotly_afterplot").includes(plot.follow)) continue;
      plot.follow = follow.bind(plot);
      plot.on("plotly_afterplot", plot.follow);
      plot.follow();
    }
  };
  new MutationObserver(watch).observe(document.documentElement, { childList: true, subtree: true });
  window.mbsearchUnits = UNITS;
})();
