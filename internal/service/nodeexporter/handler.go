package nodeexporter

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/node_exporter/collector"
)

// maxRequests is the stock binary's default number of scrapes side by side.
const maxRequests = 40

// parsed is the one global here, because what it guards is global: node_exporter
// keeps its collectors' switches in kingpin's one command line, and the instances
// it made in a map of its own. Parsing twice adds up, parsing never gives zero
// collectors and no error.
var parsed struct {
	once      sync.Once
	arguments []string
	err       error
}

// parse hands the compiled-in arguments to the collectors, once per process.
func parse(arguments []string) error {
	parsed.once.Do(func() {
		parsed.arguments = slices.Clone(arguments)
		line := kingpin.CommandLine
		line.Terminate(func(int) {}) // a bad argument is an error here, not the end of the process
		line.UsageWriter(io.Discard)
		line.ErrorWriter(io.Discard)
		none := line.Flag("collector.disable-defaults", "Set all collectors to disabled by default.").Bool()
		if _, err := line.Parse(arguments); err != nil {
			parsed.err = fmt.Errorf("parse node_exporter arguments %q: %w; correct node_exporter.arguments in the site", arguments, err)
			return
		}
		if *none {
			collector.DisableDefaultCollectors()
		}
	})
	if parsed.err == nil && !slices.Equal(parsed.arguments, arguments) {
		return fmt.Errorf("parse node_exporter arguments %q: this process already has %q", arguments, parsed.arguments)
	}
	return parsed.err
}

// handler answers scrapes: all collectors, or those that collect[] names or
// exclude[] leaves, as Prometheus can ask for them.
type handler struct {
	all     http.Handler
	enabled []string
	own     *prometheus.Registry // metrics about the exporter itself
	logger  *slog.Logger
}

// newHandler builds the collectors from the arguments and refuses an empty set.
func newHandler(arguments []string, logger *slog.Logger) (*handler, error) {
	if err := parse(arguments); err != nil {
		return nil, err
	}
	nodes, err := collector.NewNodeCollector(logger)
	if err != nil {
		return nil, err
	}
	if len(nodes.Collectors) == 0 {
		return nil, errors.New("no collector is enabled; correct node_exporter.arguments in the site")
	}
	h := &handler{own: prometheus.NewRegistry(), logger: logger}
	for name := range nodes.Collectors {
		h.enabled = append(h.enabled, name)
	}
	slices.Sort(h.enabled)
	logger.Debug("collectors enabled", "collectors", strings.Join(h.enabled, " "))
	// In a registry of their own and not in the library's default one, which Consul shares.
	for _, about := range []prometheus.Collector{
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
	} {
		if err := h.own.Register(about); err != nil {
			return nil, fmt.Errorf("register the exporter's own metrics: %w", err)
		}
	}
	h.all, err = h.over(nodes)
	return h, err
}

// over returns a handler of these collectors with the exporter's own metrics beside them.
func (h *handler) over(nodes *collector.NodeCollector) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, each := range []prometheus.Collector{versioncollector.NewCollector("node_exporter"), nodes} {
		if err := registry.Register(each); err != nil {
			return nil, fmt.Errorf("register collectors: %w", err)
		}
	}
	return promhttp.InstrumentMetricHandler(h.own, promhttp.HandlerFor(
		prometheus.Gatherers{h.own, registry},
		promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(h.logger.Handler(), slog.LevelError),
			ErrorHandling:       promhttp.ContinueOnError, // one sick collector must not hide the others
			MaxRequestsInFlight: maxRequests,
			Registry:            h.own,
		})), nil
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	only, without := query["collect[]"], query["exclude[]"]
	switch {
	case len(only) == 0 && len(without) == 0:
		h.all.ServeHTTP(response, request)
		return
	case len(only) > 0 && len(without) > 0:
		http.Error(response, "ask for collect[] or exclude[], not for both", http.StatusBadRequest)
		return
	case len(without) > 0:
		only = slices.DeleteFunc(slices.Clone(h.enabled), func(name string) bool { return slices.Contains(without, name) })
		if len(only) == 0 { // to the library no filter means everything
			http.Error(response, "exclude[] leaves no collector", http.StatusBadRequest)
			return
		}
	}
	nodes, err := collector.NewNodeCollector(h.logger, only...)
	if err == nil {
		var some http.Handler
		if some, err = h.over(nodes); err == nil {
			some.ServeHTTP(response, request)
			return
		}
	}
	http.Error(response, err.Error(), http.StatusBadRequest)
}

// newPages returns what the port serves: the metrics, what the site's Prometheus
// wants besides, and a page that leads to the former.
func newPages(metrics http.Handler, besides map[string]http.Handler) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "Node Exporter",
		Description: "Prometheus Node Exporter, embedded in pawl",
		Version:     version.Info(),
		Links:       []web.LandingLinks{{Address: metricsPath, Text: "Metrics"}},
	})
	if err != nil {
		return nil, fmt.Errorf("build landing page: %w", err)
	}
	pages := http.NewServeMux()
	pages.Handle(metricsPath, metrics)
	for path, page := range besides {
		pages.Handle(path, page)
	}
	pages.Handle("/", landing)
	return pages, nil
}
