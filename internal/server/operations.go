package server

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/countersign-dev/countersign/internal/store"
)

// metrics are what Prometheus reads. Labels are patterns and classes, never
// anything of a person.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "countersign_request_seconds", Help: "Time to answer a request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"route", "status"}),
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	counts := func(pick func(c countsOf) float64) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			c, err := s.Store.Counts(ctx)
			if err != nil {
				return -1
			}
			return pick(countsOf{float64(c.Bytes), float64(c.Records), float64(c.Pending), float64(c.Signed)})
		}
	}
	m.registry.MustRegister(
		m.requests, s.wrong, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("countersign_database_bytes", "Size of the database.", counts(func(c countsOf) float64 { return c.bytes })),
		gauge("countersign_audit_records", "Records numbered into the log.", counts(func(c countsOf) float64 { return c.records })),
		gauge("countersign_audit_pending", "Records committed and not yet numbered.", counts(func(c countsOf) float64 { return c.pending })),
		gauge("countersign_audit_signed", "Records under the newest checkpoint.", counts(func(c countsOf) float64 { return c.signed })),
		gauge("countersign_disk_reserve", "1 while a reserve is kept on the database's disk, 0 while there is none.", func() float64 {
			if s.Store.Room() == store.ReserveKept {
				return 1
			}
			return 0
		}),
		gauge("countersign_clock_trusted", "1 while the clock is believed, 0 while nothing is issued because it is wrong.", func() float64 {
			if s.clock.fault() == nil {
				return 1
			}
			return 0
		}),
		gauge("countersign_clock_ahead_seconds", "How far the clock is ahead of the newest act; below -5 nothing is issued.", s.clock.lead),
		noticeMetrics{s}, pdpMetrics{s},
		refused(s.lanes.api, "api"), refused(s.lanes.pages, "pages"), refused(s.lanes.log, "log"),
		gauge("countersign_feed_subscribers", "Connected enforcement points.", func() float64 { return float64(s.hub.Stats().Subscribers) }),
	)
	return m
}

// refused counts the requests that a lane refused because the server was busy.
func refused(l *lane, name string) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "countersign_refused_total", Help: "Requests refused because the server was busy.", ConstLabels: prometheus.Labels{"lane": name},
	}, func() float64 { return float64(l.refused.Load()) })
}

// countsOf are the store's counts as numbers.
type countsOf struct{ bytes, records, pending, signed float64 }

// observe times each request by the pattern that matched it.
func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		if r.Pattern == "GET /v1/revocations/stream" {
			return
		}
		m.requests.WithLabelValues(r.Pattern, strconv.Itoa(sw.status/100)+"xx").Observe(time.Since(start).Seconds())
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Operations is everything the operations listener serves: health, readiness,
// metrics, profiles, and nothing else (contract).
func (s *Server) Operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}
