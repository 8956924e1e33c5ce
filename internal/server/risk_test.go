package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// TestPlacesFileMissing: a file of places that cannot be read stops the start, with
// its name; scoring without places would be another thing than what was asked for.
func TestPlacesFileMissing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.Risk.PlacesFile = filepath.Join(t.TempDir(), "none.mmdb")
	_, err := OpenState(t.Context(), cfg, Options{Migrate: true})
	if err == nil || !strings.Contains(err.Error(), "none.mmdb") {
		t.Errorf("%v", err)
	}
}

// Where somebody is used to be, and where nobody was.
const (
	usual = "198.51.100.0/24"
	other = "203.0.113.0/24"
)

// writePlaces makes a file of places in which the two are in different countries.
func writePlaces(t *testing.T) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true})
	check(t, err)
	for prefix, at := range map[string][3]any{usual: {"NO", 59.9, 10.7}, other: {"BR", -23.5, -46.6}} {
		_, n, err := net.ParseCIDR(prefix)
		check(t, err)
		check(t, w.Insert(n, mmdbtype.Map{
			"country":  mmdbtype.Map{"iso_code": mmdbtype.String(at[0].(string))},
			"location": mmdbtype.Map{"latitude": mmdbtype.Float64(at[1].(float64)), "longitude": mmdbtype.Float64(at[2].(float64))},
		}))
	}
	path := filepath.Join(t.TempDir(), "places.mmdb")
	f, err := os.Create(path)
	check(t, err)
	_, err = w.WriteTo(f)
	check(t, err)
	check(t, f.Close())
	return path
}

// life is what somebody did before now; it is changed by each case.
type life struct {
	risk.History
	now time.Time
	e   risk.Event // as always
}

// learn has it happen n times, each so long after the other, the last so long ago.
func (l *life) learn(n int, every, ago time.Duration) {
	for i := range n {
		e := l.e
		e.At = l.now.Add(-ago - time.Duration(n-1-i)*every)
		l.Learn(e, true)
	}
}

// TestRiskIsWhatTheConfigurationSays goes from a configuration file to a decision, its
// reasons and its record, once for each signal and with what the operator says of it. Each
// case has its control: the same with one thing less is allowed.
func TestRiskIsWhatTheConfigurationSays(t *testing.T) {
	t.Parallel()
	dep := deployments{t.TempDir(), map[string]*State{}}
	t.Cleanup(func() {
		for _, st := range dep.open {
			check(t, st.Close())
		}
	})
	const touchy = "  bands: {medium: 10, high: 70, extreme: 90}\n"
	places := "  places_file: " + writePlaces(t) + "\n"
	elsewhere := func(o *act.Origin) { o.Network = other }
	stranger := func(o *act.Origin) { o.Network, o.Device = other, "" }
	always := func(l *life) { l.learn(240, time.Hour, time.Hour) }
	for name, tc := range map[string]struct {
		conf    string // below risk:
		without string // of the control, where the configuration is what counts
		before  func(*life)
		calm    func(*life) // of the control, where what was before is
		now     func(*act.Origin)
		usually func(*act.Origin) // of the control, where what is now is
		more    string            // of the configuration
		calms   risk.Signal       // in the control, what speaks for the actor
		want    []risk.Signal
		words   string
		outcome policy.Outcome
	}{
		"a device and a network that are new": {
			before: always, now: stranger, usually: func(*act.Origin) {},
			want: []risk.Signal{risk.NewDevice, risk.NewNetwork}, words: "It shows no device that this account has.", outcome: policy.StepUp,
		},
		"what a trusted network takes off": {
			without: "  trusted_networks: [\"" + other + "\"]\n", before: always, now: stranger, calms: risk.TrustedNetwork,
			want: []risk.Signal{risk.NewDevice, risk.NewNetwork}, words: "The network " + other + " is new for this account.", outcome: policy.StepUp,
		},
		"bands": {
			conf: touchy, before: always, now: elsewhere, without: "  bands: {medium: 16}\n",
			want: []risk.Signal{risk.NewNetwork}, words: "is new for this account.", outcome: policy.StepUp,
		},
		"bands, up to a refusal": {
			conf: "  bands: {medium: 5, high: 10, extreme: 15}\n", before: always, now: elsewhere, without: "  bands: {extreme: 90}\n",
			want: []risk.Signal{risk.NewNetwork}, words: "is new for this account.", outcome: policy.Deny,
		},
		"an hour": {
			conf: touchy, before: func(l *life) { l.learn(90, 24*time.Hour, 12*time.Hour) }, calm: func(l *life) { l.learn(90, 24*time.Hour, 0) }, now: func(*act.Origin) {},
			want: []risk.Signal{risk.UnusualHour}, words: "This account is rarely used at this hour.", outcome: policy.StepUp,
		},
		"a volume": {
			conf: touchy, before: func(l *life) { always(l); l.learn(60, time.Second, time.Minute) }, calm: always, now: func(*act.Origin) {},
			want: []risk.Signal{risk.UnusualVolume}, words: "uses in the last hour", outcome: policy.StepUp,
		},
		"a token that is old": {
			conf: "  bands: {medium: 20}\n", before: always,
			now: func(o *act.Origin) { elsewhere(o); o.TokenAge = 9 * time.Hour }, usually: elsewhere,
			want: []risk.Signal{risk.NewNetwork, risk.OldToken}, words: "The credential is 9h0m0s old.", outcome: policy.StepUp,
		},
		"a journey": {
			conf: places, before: func(l *life) {
				l.e.Place = risk.Place{Country: "NO", Latitude: 59.9, Longitude: 10.7}
				l.learn(240, time.Hour, time.Hour)
			}, now: elsewhere, without: "\n",
			want: []risk.Signal{risk.NewNetwork, risk.NewCountry, risk.ImpossibleTravel}, words: "Nobody gets there so fast:", outcome: policy.StepUp,
		},
		"two networks at once, where no places are known": {
			before: func(l *life) { l.learn(240, time.Hour, time.Minute) }, calm: always,
			now:  func(o *act.Origin) { elsewhere(o); o.Shown, o.Device = false, "" },
			want: []risk.Signal{risk.NewNetwork, risk.ImpossibleTravel}, words: "It was in use on another network a minute before.", outcome: policy.StepUp,
		},
		"what a managed device takes off": {
			conf: touchy, more: "devices: {managed: true}\n", before: always, now: elsewhere, usually: func(o *act.Origin) { elsewhere(o); o.Device = "managed" }, calms: risk.ManagedDevice,
			want: []risk.Signal{risk.NewNetwork}, words: "is new for this account.", outcome: policy.StepUp,
		},
		"prompts": {
			before: func(l *life) {
				always(l)
				for i := range 5 {
					l.Asked(fmt.Sprint(i), l.now.Add(-12*time.Minute), l.now.Add(-2*time.Minute), risk.Low)
				}
			}, calm: always, now: func(*act.Origin) {},
			want: []risk.Signal{risk.Prompts}, words: "5 prompts in the last hour that nobody answered, or with a no.", outcome: policy.StepUp,
		},
		"wrong proofs from here": {
			conf: touchy, before: func(l *life) { always(l); l.fails(usual) }, calm: func(l *life) { always(l); l.fails(other) }, now: func(*act.Origin) {},
			want: []risk.Signal{risk.Failures}, words: "proofs of this account were wrong in the last hour, from the same network.", outcome: policy.StepUp,
		},
		"another kind of browser": {
			conf: touchy, before: always, now: func(o *act.Origin) { o.Agent = "Chrome on Windows" }, usually: func(*act.Origin) {},
			want: []risk.Signal{risk.NewTool}, words: "This device was never used with Chrome on Windows before.", outcome: policy.StepUp,
		},
	} {
		t.Run(name, func(t *testing.T) {
			control := tc.calm
			if control == nil {
				control = tc.before
			}
			now := tc.usually
			if now == nil {
				now = tc.now
			}
			conf := tc.conf
			if tc.without != "" {
				conf = tc.without
			}
			dec, a, rec := dep.decided(t, conf, tc.more, control, now)
			calmed := slices.ContainsFunc(a.Terms, func(x risk.Term) bool { return x.Signal == tc.calms && x.Points < 0 })
			if dec.Outcome != policy.Allow || calmed != (tc.calms != "") {
				t.Errorf("the control: %v %+v\n%s", dec.Outcome, a.Terms, rec)
			}
			dec, a, rec = dep.decided(t, tc.conf, tc.more, tc.before, tc.now)
			var got []risk.Signal
			for _, x := range a.Terms {
				got = append(got, x.Signal)
			}
			if dec.Outcome != tc.outcome || !slices.Equal(got, tc.want) {
				t.Errorf("%v with %v, want %v with %v", dec.Outcome, got, tc.outcome, tc.want)
			}
			if !slices.ContainsFunc(dec.Reasons, func(r policy.Reason) bool { return strings.Contains(r.Text, tc.words) }) {
				t.Errorf("the person is told %v", dec.Reasons)
			}
			for _, want := range append([]string{`"risk":"` + a.Band + `"`}, quoted(tc.want)...) {
				if !strings.Contains(rec, want) {
					t.Errorf("the record lacks %s: %s", want, rec)
				}
			}
		})
	}
}

// fails has twelve proofs be wrong a moment ago.
func (l *life) fails(network string) {
	for range 12 {
		l.Learn(risk.Event{At: l.now.Add(-time.Second), Did: risk.Failure, Network: network}, false)
	}
}

func quoted(list []risk.Signal) (out []string) {
	for _, s := range list {
		out = append(out, `"`+string(s)+`"`)
	}
	return out
}

// deployments are those that were opened, by what the configuration says.
type deployments struct {
	dir  string
	open map[string]*State
}

// with opens a deployment whose configuration says something of risk, and more.
func (d deployments) with(t *testing.T, conf, more string) *State {
	t.Helper()
	if st := d.open[conf+more]; st != nil {
		return st
	}
	dir := filepath.Join(d.dir, strconv.Itoa(len(d.open)))
	text := "issuer: https://id.example.com\nlisten: {address: \"127.0.0.1:8443\"}\nproxy: {trusted: [\"127.0.0.1/32\"], header: X-Forwarded-For}\n" +
		"data_dir: " + dir + "\ndatabase: {sqlite: " + filepath.Join(dir, "db") + "}\n" + more + "risk:\n  reported_at_most: 60\n" + conf
	cfg, err := config.Parse([]byte(text), nil)
	check(t, err)
	st, err := OpenState(context.Background(), cfg, Options{Migrate: true, Reserve: -1})
	check(t, err)
	d.open[conf+more] = st
	return st
}

// decided has somebody with a past look at their account as they are now, and gives the
// decision, the assessment it saw, and its record.
func (d deployments) decided(t *testing.T, conf, more string, before func(*life), now func(*act.Origin)) (policy.Decision, risk.Assessment, string) {
	t.Helper()
	st := d.with(t, conf, more)
	at := st.now()
	seed := func(changes ...act.Change) {
		t.Helper()
		_, err := st.Do.Do(t.Context(), act.Intent{
			Action: policy.SandboxSeed, Kind: audit.PersonCreated, Refs: act.Refs{Kind: policy.KindSystem},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: changes}, nil },
		})
		check(t, err)
	}
	who := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: id.Random("dana"), CreatedAt: at}
	seed(account.Create{Person: who})
	dev := session.Device{ID: id.New(id.Device), Label: "Firefox on Linux", CreatedAt: at}
	proof := assurance.Proof{Method: assurance.Passkey, Subject: who.ID, At: at.Add(-time.Hour), UserVerified: true, PhishingResistant: true}
	ses := session.Session{ID: id.New(id.Session), Person: who.ID, Device: dev.ID, Proofs: []assurance.Proof{proof}, CreatedAt: at, SeenAt: at, ExpiresAt: at.Add(session.Lifetime), IdleUntil: at.Add(session.Lifetime)}
	seed(session.Open{Session: ses, SecretHash: secret.New(secret.Session).Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash()})
	l := &life{now: at, e: risk.Event{Network: usual, Device: dev.ID, Agent: dev.Label, Things: []string{string(policy.SelfRead)}}}
	before(l)
	kept, err := l.MarshalBinary()
	check(t, err)
	seed(profile.Keep{Actor: who.ID, State: kept})

	from := act.Origin{Asked: true, Shown: true, Network: usual, Device: dev.ID, Agent: dev.Label}
	if now(&from); from.Device == "managed" {
		from.Device = dev.ID
		seed(session.Manage{Managed: session.Managed{Device: dev.ID, Person: who.ID, Until: at.Add(time.Hour), By: "svc_mdm"}})
	}
	in := act.Intent{
		Action: policy.SelfRead, Kind: audit.TokenRefused, From: from,
		Refs: act.Refs{Kind: policy.KindPerson, Actor: who.ID, Session: ses.ID, Owner: who.ID},
	}
	dec, facts, err := st.Do.Judge(t.Context(), in)
	check(t, err)
	if _, err := st.Do.Do(t.Context(), in); (err == nil) != (dec.Outcome == policy.Allow) {
		t.Errorf("decided %v, and done: %v", dec.Outcome, err)
	}
	list, _, err := st.Store.AuditPage(t.Context(), store.Filter{}, 3)
	check(t, err)
	i := slices.IndexFunc(list, func(r store.Record) bool { return strings.Contains(string(r.Row.Facts), `"self.read"`) })
	if i < 0 {
		t.Fatal("it is not recorded")
	}
	return dec, facts.Risk, string(list[i].Row.Facts)
}
