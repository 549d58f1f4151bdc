package main

import (
	"os"

	"pawl/internal/dial"
	"pawl/internal/handover"
	"pawl/internal/logs"
	"pawl/internal/service"
	"pawl/internal/service/consulagent"
	"pawl/internal/service/nodeexporter"
	"pawl/internal/service/watchdog"
	"pawl/internal/status"
	"pawl/transitions"
)

// embeddedServices are the services that the machine's ports need by name.
type embeddedServices struct {
	consul   *consulagent.Agent
	exporter *nodeexporter.Exporter
	status   *status.Server
	handover *handover.Keeper
	watchdog *watchdog.Watchdog
}

// serviceRow is one row of the service table: a service, and what its end means
// to the machine. A new embedded service is one package and one row here.
type serviceRow struct {
	service service.Service
	// stopped is the news that the machine is told when the service ended unasked.
	stopped func(cause string) transitions.News
	// restarts is how many failed restarts within service.RecentWindow end the
	// process with exit 75; zero: restarted for ever.
	restarts int
}

// serviceTable lists every embedded service. The supervisor starts them in this order.
func serviceTable(of embeddedServices) []serviceRow {
	return []serviceRow{
		{service: of.watchdog, stopped: noRung("watchdog")},
		{service: of.handover, stopped: noRung("handover")},
		{service: of.status, stopped: noRung("status")},
		{service: of.exporter, stopped: transitions.ExporterStopped},
		{service: of.consul, stopped: transitions.AgentStopped, restarts: 3}, // law 1
	}
}

// noRung is for services whose end the log should know and no state depends on.
func noRung(name string) func(cause string) transitions.News {
	return func(cause string) transitions.News { return transitions.ServiceNews(name+"_stopped", cause) }
}

func newServices(of environment, source status.Source) embeddedServices {
	exporter := nodeexporter.New(of.site.NodeExporter, logs.Component(of.log, "node_exporter"))
	exporter.Besides(status.MetricsPath, source.Metrics())
	return embeddedServices{
		consul: consulagent.New(of.site, dial.New(of.site.Resolver), of.log,
			consulagent.Options{RegisterNodeExporter: of.registers}),
		handover: handover.NewKeeper(of.site.RuntimeFolder, of.site.Hash(), logs.Component(of.log, "handover")),
		exporter: exporter,
		watchdog: watchdog.New(logs.Component(of.log, "watchdog"), os.Stderr, of.notify),
		status:   status.NewServer(status.SocketPath(of.site), source, logs.Component(of.log, "status")),
	}
}
