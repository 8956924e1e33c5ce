package countersign

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
)

// The states of the policies that are held here.
const (
	PoliciesNone     = "none"     // nothing is held: every action is asked about
	PoliciesKept     = "kept"     // from the folder Keep; the issuer has not been heard since the start
	PoliciesFresh    = "fresh"    // what they can decide is decided here
	PoliciesStale    = "stale"    // only what may be decided in an outage is, and for a day
	PoliciesOutdated = "outdated" // the issuer has told of newer ones: every action is asked about
)

// What was wrong when the issuer was last spoken to.
const (
	FaultUnreachable = "unreachable" // no answer, or it broke off
	FaultUnavailable = "unavailable" // an answer of 5xx
	FaultRefused     = "refused"     // it did not take the request
	FaultRejected    = "rejected"    // its answer is not its own, or would take back what was seen
)

// rejected is why an answer was not taken.
type rejected struct{ error }

// Unwrap gives the reason.
func (r rejected) Unwrap() error { return r.error }

// faultOf is the class of an error: one of the few that a metric may have.
func faultOf(err error) string {
	var not rejected
	var answer *ResponseError
	var way *url.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &answer) && answer.Status/100 == 5:
		return FaultUnavailable
	case errors.As(err, &answer), errors.Is(err, errGone):
		return FaultRefused
	case errors.As(err, &way):
		return FaultUnreachable
	case errors.As(err, &not), errors.Is(err, errFrame):
		return FaultRejected
	}
	return FaultUnreachable
}

// tally counts what requests were answered. Counting costs one atomic addition.
type tally struct {
	decisions [decidedWays][outcomes]atomic.Uint64
	refusals  [len(refusalCodes)]atomic.Uint64
}

// Who decided, and how.
const (
	byIssuer = iota
	byPolicies
	decidedWays
)

const (
	outcomeAllow = iota
	outcomeStepUp
	outcomeDeny
	outcomeUnavailable
	outcomeFault // of the program: a PropertyError
	outcomes
)

// refusalCodes are the errors that refusals name. Another is counted as the last.
var refusalCodes = [...]string{
	"token_missing", "invalid_token", "invalid_dpop_proof", "use_dpop_nonce", "insufficient_user_authentication", "insufficient_scope",
	"access_denied", "invalid_request", "temporarily_unavailable", "other",
}

// decided counts what Authorize answered.
func (c *tally) decided(by int, err error) {
	outcome := outcomeUnavailable
	if err == nil {
		outcome = outcomeAllow
	} else if no, ok := err.(*AccessError); ok {
		outcome = outcomeStepUp
		if no.verdict.bare {
			outcome = outcomeDeny
		}
	} else if _, ok := err.(*PropertyError); ok {
		outcome = outcomeFault
	}
	c.decisions[by][outcome].Add(1)
}

// refused counts an answer that names an error.
func (c *tally) refused(code string) {
	for i, known := range refusalCodes {
		if known == code || i == len(refusalCodes)-1 {
			c.refusals[i].Add(1)
			return
		}
	}
}

// all is how many actions were decided.
func (c *tally) all() (n uint64) {
	for by := range c.decisions {
		for i := range c.decisions[by] {
			n += c.decisions[by][i].Load()
		}
	}
	return n
}

// MetricsHandler serves what WriteMetrics writes. It tells of nobody, but of how the server stands
// towards its issuer: mount it where operators reach it and nobody else.
func MetricsHandler(vs ...*Verifier) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = WriteMetrics(w, vs...)
	})
}

// WriteMetrics writes the state of verifiers, each of another audience, as metrics in the text
// format that Prometheus reads (version 0.0.4), without a library. Ages are in seconds. A label
// is the audience or one of a few fixed words, never anything of a request. What a verifier does
// not have, the feed or policies, is left out. An error is w's.
func WriteMetrics(w io.Writer, vs ...*Verifier) error {
	all := make([]reading, len(vs))
	for i, v := range vs {
		all[i] = reading{v: v, policies: v.PolicyStatus(), feed: v.FeedStatus()}
	}
	var text bytes.Buffer
	for _, f := range families {
		f.write(&text, all)
	}
	_, err := w.Write(text.Bytes())
	return err
}

// reading is a verifier's state at one moment.
type reading struct {
	v        *Verifier
	policies PolicyStatus
	feed     FeedStatus
}

// put gives a value; labels are names and values in turn.
type put func(value float64, labels ...string)

// family is one metric.
type family struct {
	name, kind, help string
	of               func(reading, put)
}

func (f family) write(text *bytes.Buffer, all []reading) {
	begun := false
	for _, r := range all {
		f.of(r, func(value float64, labels ...string) {
			if !begun {
				text.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
				begun = true
			}
			text.WriteString(f.name + `{audience="` + labelEscapes.Replace(r.v.cfg.Audience) + `"`)
			for i := 0; i < len(labels); i += 2 {
				text.WriteString("," + labels[i] + `="` + labelEscapes.Replace(labels[i+1]) + `"`)
			}
			text.WriteString("} " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
		})
	}
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// ofPolicies is a number of a verifier that holds policies, or is to.
func ofPolicies(value func(PolicyStatus) float64) func(reading, put) {
	return func(r reading, put put) {
		if r.v.bundle != nil {
			put(value(r.policies))
		}
	}
}

// ofHeld is a number of policies that are there.
func ofHeld(value func(PolicyStatus) float64) func(reading, put) {
	return func(r reading, put put) {
		if r.policies.Held {
			put(value(r.policies))
		}
	}
}

// ofFeed is a number of a verifier with a feed.
func ofFeed(value func(FeedStatus) float64) func(reading, put) {
	return func(r reading, put put) {
		if r.v.feed != nil {
			put(value(r.feed))
		}
	}
}

// among puts 1 for the word that holds, and 0 for the others.
func among(put put, label, holds string, words ...string) {
	for _, w := range words {
		put(truth(w == holds), label, w)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// faults puts which one of them holds; "" is none.
func faults(put put, holds string) {
	among(put, "kind", holds, FaultUnreachable, FaultUnavailable, FaultRefused, FaultRejected)
}

const (
	gauge   = "gauge"
	counter = "counter"
)

// families are the metrics, named as the server's are.
var families = []family{
	{"countersign_policy_info", gauge, "Which policies are held here.", func(r reading, put put) {
		if p := r.policies; p.Held {
			put(1, "epoch", strconv.FormatInt(p.Epoch, 10), "version", strconv.FormatInt(p.Version, 10), "hash", p.Hash)
		}
	}},
	{"countersign_policy_state", gauge, "1 for the state of the policies held here.", func(r reading, put put) {
		if r.v.bundle != nil {
			among(put, "state", r.policies.State, PoliciesNone, PoliciesKept, PoliciesFresh, PoliciesStale, PoliciesOutdated)
		}
	}},
	{"countersign_policy_version", gauge, "Version of the policies held here.", ofHeld(func(p PolicyStatus) float64 { return float64(p.Version) })},
	{"countersign_policy_lowest_version", gauge, "Lowest version that the issuer accepts, as far as was heard.", ofPolicies(func(p PolicyStatus) float64 { return float64(p.Lowest) })},
	{"countersign_policy_age_seconds", gauge, "Time since the issuer last said that the policies held here are in force.", ofHeld(func(p PolicyStatus) float64 { return p.Age.Seconds() })},
	{"countersign_policy_bound_seconds", gauge, "Age up to which the policies held here decide all that they can.", ofPolicies(func(PolicyStatus) float64 { return outageAfter.Seconds() })},
	{"countersign_policy_outage_bound_seconds", gauge, "Age up to which they decide what may be decided in an outage.", ofPolicies(func(PolicyStatus) float64 { return bundleLife.Seconds() })},
	{"countersign_policy_actions", gauge, "Actions that may be asked about, by who decides them.", func(r reading, put put) {
		if p := r.policies; p.Held {
			put(float64(p.Local), "by", "policies")
			put(float64(p.Actions-p.Local), "by", "issuer")
		}
	}},
	{"countersign_policy_fetches_total", counter, "Times that the issuer was asked for policies, by what came of it.", func(r reading, put put) {
		if p := r.policies; r.v.bundle != nil {
			put(float64(p.Fetched), "outcome", "taken")
			put(float64(p.Rejected), "outcome", "rejected")
			put(float64(p.Failed), "outcome", "failed")
		}
	}},
	{"countersign_policy_fault", gauge, "1 for what was wrong when the issuer was last asked for policies.", func(r reading, put put) {
		if r.v.bundle != nil {
			faults(put, r.policies.Fault)
		}
	}},
	{"countersign_decisions_total", counter, "Actions decided, by whom and how.", func(r reading, put put) {
		for by, name := range [...]string{byIssuer: "issuer", byPolicies: "policies"} {
			for i, outcome := range [...]string{outcomeAllow: "allow", outcomeStepUp: "step_up", outcomeDeny: "deny", outcomeUnavailable: "unavailable", outcomeFault: "fault"} {
				put(float64(r.v.tally.decisions[by][i].Load()), "by", name, "outcome", outcome)
			}
		}
	}},
	{"countersign_decisions_outage_total", counter, "Actions that the issuer decides and could not be asked about.", ofPolicies(func(p PolicyStatus) float64 { return float64(p.Outages) })},
	{"countersign_requests_refused_total", counter, "Requests refused or challenged, by the error that the answer names.", func(r reading, put put) {
		for i, code := range refusalCodes {
			put(float64(r.v.tally.refusals[i].Load()), "error", code)
		}
	}},
	{"countersign_feed_synced", gauge, "1 once a snapshot of what has ended was applied.", ofFeed(func(f FeedStatus) float64 { return truth(f.Synced) })},
	{"countersign_feed_connected", gauge, "1 while the stream is open.", ofFeed(func(f FeedStatus) float64 { return truth(f.Connected) })},
	{"countersign_feed_age_seconds", gauge, "Time since the last good frame: how far the feed is behind at most.", func(r reading, put put) {
		if r.feed.Synced {
			put(r.feed.Age.Seconds())
		}
	}},
	{"countersign_feed_bound_seconds", gauge, "Age up to which sensitive requests are let in by the feed.", ofFeed(func(FeedStatus) float64 { return staleAfter.Seconds() })},
	{"countersign_feed_outage_bound_seconds", gauge, "Age up to which other requests are.", ofFeed(func(FeedStatus) float64 { return outageAfter.Seconds() })},
	{"countersign_feed_sequence", gauge, "Position in the issuer's log of the newest frame applied.", ofFeed(func(f FeedStatus) float64 { return float64(f.Seq) })},
	{"countersign_feed_log_records", gauge, "Size of the issuer's log, as far as was heard.", ofFeed(func(f FeedStatus) float64 { return float64(f.HW) })},
	{"countersign_feed_entries", gauge, "Things remembered as ended.", ofFeed(func(f FeedStatus) float64 { return float64(f.Entries) })},
	{"countersign_feed_frames_total", counter, "Frames applied, heartbeats included.", ofFeed(func(f FeedStatus) float64 { return float64(f.Frames) })},
	{"countersign_feed_snapshots_total", counter, "Snapshots applied.", ofFeed(func(f FeedStatus) float64 { return float64(f.Snapshots) })},
	{"countersign_feed_reconnects_total", counter, "Times that the stream ended and was opened again.", ofFeed(func(f FeedStatus) float64 { return float64(f.Reconnects) })},
	{"countersign_feed_rejected_total", counter, "Frames that were not the next good one.", ofFeed(func(f FeedStatus) float64 { return float64(f.Rejected) })},
	{"countersign_feed_fault", gauge, "1 for what was wrong with the feed since its last good frame.", func(r reading, put put) {
		if r.v.feed != nil {
			faults(put, r.feed.Fault)
		}
	}},
}
