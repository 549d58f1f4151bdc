package status

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pawl/internal/service"
	"pawl/states"
	"pawl/transitions"
)

// MetricsPath is where pawl's own metrics are served, on the status socket and
// beside node_exporter's /metrics, which stays what the stock binary's is.
const MetricsPath = "/pawl/metrics"

// The names of pawl's metrics and their labels. Every series is there from the
// first scrape on, with every value that its label can have; no node or uuid
// label, since the target has those.
var (
	buildInfo       = described("build_info", "1, with the version and the site of this binary.", "version", "site", "site_hash")
	startTime       = described("start_timestamp_seconds", "When this process began.")
	recentCrashes   = described("recent_crashes", "How often within a day a process was started after one that nobody had told to end.")
	inState         = described("state", "1 for the state the machine is in, else 0.", "state")
	ready           = described("ready", "1 while the node can be relied on: registration read back lately, exporter answering.")
	reasonStands    = described("reason", "1 while a reason stands that no other one explains.", "name")
	moves           = described("state_transitions_total", "Arrows taken.")
	epoch           = described("epoch", "Logins that took hold.")
	expiry          = described("credential_expiry_timestamp_seconds", "When a credential ends; 0 while it is not held, or without end.", "kind")
	attempts        = described("action_attempts_total", "Attempts at an action.", "action")
	failures        = described("action_failures_total", "Attempts at an action that failed.", "action")
	budget          = described("outage_budget_seconds", "How long what is held carries on by itself while this far end is gone.", "gone")
	clockSkew       = described("clock_skew_seconds", "How far this machine's wall clock is ahead of the far ends'.")
	readBack        = described("last_catalog_readback_timestamp_seconds", "When a server last answered that the registration is there; 0: never.")
	serviceUp       = described("service_up", "1 while the embedded service runs.", "service")
	serviceRestarts = described("service_restarts_total", "Restarts of the embedded service in this process.", "service")
	formerToRevoke  = described("former_tokens", "Vault tokens of former epochs that wait to be revoked.")
)

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pawl_"+name, help, labels, nil)
}

// Metrics returns the handler of MetricsPath. It reads a snapshot, and so never
// waits for the machine. Safe from any goroutine.
func (s Source) Metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector turns a report into metrics at each scrape.
type collector struct{ source Source }

// Describe implements prometheus.Collector. It sends nothing: an unchecked
// collector, whose series follow the tables they are derived from.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	report := c.source.Report()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(buildInfo, 1, report.Version, report.Site, report.SiteHash)
	gauge(startTime, seconds(&report.Started))
	recent, _ := report.crashed(c.source.Now())
	gauge(recentCrashes, float64(recent))
	for _, state := range states.All() {
		gauge(inState, truth(state == report.State), string(state))
	}
	gauge(ready, truth(report.Ready))
	standing := map[string]bool{}
	for _, reason := range states.Roots(report.Reasons) {
		standing[reason.Name] = true
	}
	for _, name := range states.ReasonNames() {
		gauge(reasonStands, truth(standing[name]), name)
	}
	counter(moves, report.MovesTotal)
	gauge(epoch, float64(report.Epoch))
	gauge(formerToRevoke, float64(report.Former))
	for _, item := range report.Evidence {
		switch item.Thing {
		case states.ThingJWT, states.ThingVault, states.ThingConsul, states.ThingCertificate:
			gauge(expiry, seconds(item.Expires), string(item.Thing))
		case states.ThingRegistration:
			gauge(readBack, seconds(item.Seen))
		}
	}
	made := map[transitions.Action][2]int{}
	for _, action := range report.Actions {
		made[action.Action] = [2]int{action.Total, action.Failed}
	}
	for _, row := range transitions.Table(transitions.Ports{}, transitions.Settings{}) {
		counter(attempts, made[row.Action][0], string(row.Action))
		counter(failures, made[row.Action][1], string(row.Action))
	}
	gauge(budget, report.Budget.Vault, "vault")
	gauge(budget, report.Budget.Consul, "consul")
	gauge(clockSkew, report.Clock.Ahead)
	for _, each := range report.Services {
		serviceMetrics(each, gauge, counter)
	}
}

func serviceMetrics(each service.Status, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, int, ...string)) {
	gauge(serviceUp, truth(each.Running), each.Name)
	counter(serviceRestarts, each.Restarts, each.Name)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds is a moment as Prometheus writes it; 0 for none.
func seconds(moment *time.Time) float64 {
	if moment == nil || moment.IsZero() {
		return 0
	}
	return float64(moment.UnixMilli()) / 1000
}
