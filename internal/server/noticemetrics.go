package server

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
)

// noticeMetrics are the figures of notices. Labels are classes of channels and
// names of rules; nothing of a receiver or a person.
type noticeMetrics struct{ s *Server }

var (
	noticesHeld    = prometheus.NewDesc("countersign_notices_delivering", "1 in the process that delivers notices, 0 in the others.", nil, nil)
	noticesSent    = prometheus.NewDesc("countersign_notices_sent_total", "Notices that arrived, by this process.", []string{"channel"}, nil)
	noticesFailed  = prometheus.NewDesc("countersign_notices_failed_total", "Attempts that failed, by this process.", []string{"channel"}, nil)
	noticesSkipped = prometheus.NewDesc("countersign_notices_skipped_total", "Mails not sent: too old, or too many to one person in an hour.", nil, nil)
	noticesBehind  = prometheus.NewDesc("countersign_notices_behind", "Records that the slowest channel of a class has not looked at.", []string{"channel"}, nil)
	noticesAside   = prometheus.NewDesc("countersign_notices_waiting", "Notices put aside to be tried again.", nil, nil)
	noticesDead    = prometheus.NewDesc("countersign_notices_dead", "Dead letters.", nil, nil)
	alertsRaised   = prometheus.NewDesc("countersign_alerts_raised_total", "Alerts raised by this process.", nil, nil)
	alertsHeld     = prometheus.NewDesc("countersign_alerts_held_total", "Alerts not raised because the like was raised before.", nil, nil)
	alertStands    = prometheus.NewDesc("countersign_alert", "1 while an alert about a state stands.", []string{"alert", "severity"}, nil)
)

// Describe implements prometheus.Collector.
func (m noticeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		noticesHeld, noticesSent, noticesFailed, noticesSkipped, noticesBehind, noticesAside, noticesDead, alertsRaised, alertsHeld, alertStands,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m noticeMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	st := m.s.notices.Stats()
	held := 0.0
	if st.Delivering {
		held = 1
	}
	gauge(noticesHeld, held)
	counter(noticesSent, st.MailSent, "mail")
	counter(noticesSent, st.HooksSent, "webhook")
	counter(noticesSent, st.AppsSent, "app")
	counter(noticesFailed, st.AppsFailed, "app")
	counter(noticesFailed, st.MailFailed, "mail")
	counter(noticesFailed, st.HooksFailed, "webhook")
	counter(noticesSkipped, st.Skipped)
	counter(alertsRaised, st.AlertsRaised)
	counter(alertsHeld, st.AlertsHeld)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	m.stored(ctx, gauge)
}

// stored are the figures that the database has. Those that cannot be read are
// left out.
func (m noticeMetrics) stored(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	if waiting, dead, err := m.s.Store.Undelivered(ctx); err == nil {
		gauge(noticesAside, float64(waiting))
		gauge(noticesDead, float64(dead))
	}
	if all, err := m.s.Store.Standing(ctx); err == nil {
		stands := map[string]float64{}
		for _, a := range all {
			stands[a.Rule] = 1
		}
		for _, a := range notice.AllAlerts() {
			if a.State {
				gauge(alertStands, stands[a.Name], a.Name, string(a.Severity))
			}
		}
	}
	size, _, err := m.s.Store.Head(ctx)
	channels, err2 := m.s.Store.Channels(ctx)
	if err != nil || err2 != nil {
		return
	}
	behind := map[string]float64{"webhook": 0}
	for _, c := range channels {
		class := c.Name
		if strings.HasPrefix(class, id.Client) { // one that is told no more stands for ever
			continue
		}
		if class != notice.Mail && class != notice.Alerts {
			class = "webhook"
		}
		if class == notice.Mail && m.s.Config.Mail.Host == "" {
			continue
		}
		behind[class] = max(behind[class], float64(int64(size)-c.Next))
	}
	for class, n := range behind {
		gauge(noticesBehind, n, class)
	}
}
