/* The title of the tab: network, study, page. */
(function () {
  window.dash_clientside = Object.assign(window.dash_clientside || {}, {
    studies: {
      title: (view, pathname) => {
        const page = pathname.replaceAll("/", "") || "front";
        const trial = page === "network" && view.trial ? `trial ${view.trial} · ` : "";
        document.title = `${trial}${view.study ?? ""} · ${page} · mbsearch`;
        return window.dash_clientside.no_update;
      },
    },
  });
})();
