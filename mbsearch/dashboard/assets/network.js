/* The stage under the pointer, marked in the chart of the layers. */
(function () {
  window.dash_clientside = Object.assign(window.dash_clientside || {}, {
    network: {
      mark: (hover) => {
        const layers = hover?.points?.[0]?.customdata?.[0];
        const plot = document.querySelector("#bars .js-plotly-plot");
        if (!layers || !plot) return window.dash_clientside.no_update;
        const opacity = plot.data.map((trace) => trace.x.map((name) => (name.startsWith(layers) ? 1 : 0.25)));
        window.Plotly.restyle(plot, { "marker.opacity": opacity });
        return layers;
      },
    },
  });
})();
