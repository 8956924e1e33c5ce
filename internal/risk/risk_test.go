package risk_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/test/population"
)

var (
	monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	berlin = risk.Place{Country: "DE", Latitude: 52.5, Longitude: 13.4}
	saigon = risk.Place{Country: "VN", Latitude: 10.8, Longitude: 106.7}
)

// settled is somebody who has worked for three weeks, from nine to five.
func settled() (*risk.History, risk.Event) {
	h := &risk.History{}
	e := risk.Event{Network: "203.0.113.0/24", Place: berlin, Device: "laptop", Things: []string{"notes:read"}}
	for day := range 21 {
		for hour := range 8 {
			e.At = monday.AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour)
			if wd := e.At.Weekday(); wd == time.Saturday || wd == time.Sunday {
				continue
			}
			e.Did = risk.Use
			if hour == 0 {
				e.Did = risk.SignIn
			}
			h.Learn(e, hour == 0)
		}
	}
	e.At, e.Did = monday.AddDate(0, 0, 21).Add(2*time.Hour), risk.Use
	return h, e
}

func names(a risk.Assessment) string {
	var out []string
	for _, t := range a.Terms {
		out = append(out, fmt.Sprintf("%s%+d", t.Signal, t.Points))
	}
	return strings.Join(out, " ")
}

func TestSignals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(h *risk.History, e *risk.Event)
		failing int
		reports []risk.Report
		want    string
		band    string
	}{
		{"as always", func(*risk.History, *risk.Event) {}, 0, nil, "", risk.Low},
		{"another device", func(_ *risk.History, e *risk.Event) { e.Device = "other" }, 0, nil, "new_device+45", risk.Medium},
		{"signing in on another device", func(_ *risk.History, e *risk.Event) { e.Device, e.Did = "other", risk.SignIn }, 0, nil, "new_device+23", risk.Low},
		{"another network", func(_ *risk.History, e *risk.Event) { e.Network = "192.0.2.0/24" }, 0, nil, "new_network+15", risk.Low},
		{"a trusted one", func(_ *risk.History, e *risk.Event) { e.Network, e.Trusted = "192.0.2.0/24", true }, 0, nil, "", risk.Low},
		{"another country an hour later", func(_ *risk.History, e *risk.Event) {
			e.Network, e.Place, e.At = "192.0.2.0/24", saigon, e.At.AddDate(0, 0, -3).Add(6*time.Hour)
		}, 0, nil, "new_network+15 new_country+25 impossible_travel+30", risk.High},
		{"with nothing that is known", func(_ *risk.History, e *risk.Event) {
			e.Network, e.Place, e.Device, e.At = "192.0.2.0/24", saigon, "", e.At.AddDate(0, 0, -3).Add(6*time.Hour)
		}, 0, nil, "new_device+45 new_network+15 new_country+25 impossible_travel+30", risk.Extreme},
		{"without places, while it is in use elsewhere", func(h *risk.History, e *risk.Event) {
			h.Learn(*e, false)
			e.Network, e.Place, e.Device, e.At = "192.0.2.0/24", risk.Place{}, "", e.At.Add(3*time.Minute)
		}, 0, nil, "new_device+45 new_network+15 impossible_travel+30", risk.Extreme},
		{"… with a token, which shows no device", func(h *risk.History, e *risk.Event) {
			h.Learn(*e, false)
			e.Network, e.Place, e.Device, e.NoDevice, e.At = "192.0.2.0/24", risk.Place{}, "", true, e.At.Add(3*time.Minute)
		}, 0, nil, "new_network+15 impossible_travel+30", risk.Medium},
		{"… on the device that is known", func(h *risk.History, e *risk.Event) {
			h.Learn(*e, false)
			e.Network, e.Place, e.At = "192.0.2.0/24", risk.Place{}, e.At.Add(3*time.Minute)
		}, 0, nil, "new_network+15", risk.Low},
		{"… nearby among addresses", func(h *risk.History, e *risk.Event) {
			h.Learn(*e, false)
			e.Network, e.Place, e.Device, e.NoDevice, e.At = "203.0.9.0/24", risk.Place{}, "", true, e.At.Add(3*time.Minute)
		}, 0, nil, "new_network+15", risk.Low},
		{"… half an hour later", func(h *risk.History, e *risk.Event) {
			h.Learn(*e, false)
			e.Network, e.Place, e.Device, e.NoDevice, e.At = "192.0.2.0/24", risk.Place{}, "", true, e.At.Add(30*time.Minute)
		}, 0, nil, "new_network+15", risk.Low},
		{"an app that is new", func(h *risk.History, e *risk.Event) {
			e.App = "mail"
			h.Learn(*e, true)
			e.App = "editor"
		}, 0, nil, "new_tool+15", risk.Low},
		{"… that was used", func(h *risk.History, e *risk.Event) {
			e.App = "mail"
			h.Learn(*e, true)
		}, 0, nil, "", risk.Low},
		{"the first app that is noticed", func(_ *risk.History, e *risk.Event) { e.App = "mail" }, 0, nil, "", risk.Low},
		{"another browser with the device's cookie", func(h *risk.History, e *risk.Event) {
			e.Agent = "Firefox on Linux"
			h.Learn(*e, true)
			e.Agent = "Chrome on Windows"
		}, 0, nil, "new_tool+15", risk.Low},
		{"… which is the usual one", func(h *risk.History, e *risk.Event) {
			e.Agent = "Firefox on Linux"
			h.Learn(*e, true)
		}, 0, nil, "", risk.Low},
		{"… of a device that is new", func(h *risk.History, e *risk.Event) {
			e.Agent = "Firefox on Linux"
			h.Learn(*e, true)
			e.Device, e.Agent = "other", "Chrome on Windows"
		}, 0, nil, "new_device+45", risk.Medium},
		{"at night", func(_ *risk.History, e *risk.Event) { e.At = e.At.Add(16 * time.Hour) }, 0, nil, "unusual_hour+15", risk.Low},
		{"something new", func(_ *risk.History, e *risk.Event) { e.Things = []string{"keys:rotate"} }, 0, nil, "first_use+5", risk.Low},
		{"much that is new", func(_ *risk.History, e *risk.Event) {
			for i := range 12 {
				e.Things = append(e.Things, fmt.Sprint("scope", i))
			}
		}, 0, nil, "first_use+40", risk.Medium},
		{"very much", func(h *risk.History, e *risk.Event) {
			for range 60 {
				h.Learn(*e, false)
			}
		}, 0, nil, "unusual_volume+30", risk.Low},
		{"wrong proofs", func(h *risk.History, e *risk.Event) {
			for range 12 {
				f := *e
				f.Did = risk.Failure
				h.Learn(f, false)
			}
		}, 0, nil, "failures+20", risk.Low},
		{"… from elsewhere, by whoever", func(h *risk.History, e *risk.Event) {
			for i := range 100 {
				f := *e
				f.Did, f.Network = risk.Failure, fmt.Sprintf("192.0.%d.0/24", i%10)
				h.Learn(f, false)
			}
		}, 0, nil, "", risk.Low},
		{"… from here, which failures from elsewhere do not wash off", func(h *risk.History, e *risk.Event) {
			for i := range 100 {
				f := *e
				f.Did = risk.Failure
				if i >= 12 {
					f.Network = fmt.Sprintf("192.0.%d.0/24", i)
				}
				h.Learn(f, false)
			}
		}, 0, nil, "failures+20", risk.Low},
		{"an hour later nobody speaks of it", func(h *risk.History, e *risk.Event) {
			for range 12 {
				f := *e
				f.Did = risk.Failure
				h.Learn(f, false)
			}
			e.At = e.At.Add(time.Hour)
		}, 0, nil, "", risk.Low},
		{"prompts", func(h *risk.History, e *risk.Event) {
			for i := range 5 {
				h.Asked(fmt.Sprint(i), e.At.Add(-time.Minute), e.At, "")
			}
		}, 0, nil, "prompts+50", risk.Medium},
		{"a network from which others are tried", func(_ *risk.History, e *risk.Event) { e.Network = "192.0.2.0/24" }, 8, nil, "new_network+15 network_attacks+45", risk.High},
		{"… which is one's own, shared with many", func(*risk.History, *risk.Event) {}, 16, nil, "network_attacks+23", risk.Low},
		{"an old token adds to what is unusual", func(_ *risk.History, e *risk.Event) { e.TokenAge, e.Network = 9*time.Hour, "192.0.2.0/24" }, 0, nil, "new_network+15 old_token+5", risk.Low},
		{"… and alone says nothing", func(_ *risk.History, e *risk.Event) { e.TokenAge = 9 * time.Hour }, 0, nil, "", risk.Low},
		{"a managed device weighs against it", func(_ *risk.History, e *risk.Event) { e.Device, e.Managed = "other", true }, 0, nil, "new_device+45 managed_device-10", risk.Medium},
		{"reported", func(*risk.History, *risk.Event) {}, 0, []risk.Report{{Points: 60, Words: "Seen in a leak.", Until: monday.AddDate(1, 0, 0)}, {Points: 40, Words: "Over.", Until: monday}}, "reported+60", risk.High},
		{"reported by many, who refuse nobody together", func(*risk.History, *risk.Event) {}, 0, []risk.Report{
			{Points: 20, Words: "A.", Until: monday.AddDate(1, 0, 0)}, {Points: 35, Words: "C.", Until: monday.AddDate(1, 0, 0)}, {Points: 35, Words: "B.", Until: monday.AddDate(1, 0, 0)}, {Points: -50, Words: "D.", Until: monday.AddDate(1, 0, 0)},
		}, "reported+35 reported+25", risk.High},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, e := settled()
			tc.change(h, &e)
			a := risk.Default().Score(h, e, tc.failing, tc.reports)
			if names(a) != tc.want || a.Band != tc.band {
				t.Errorf("%q %s, want %q %s", names(a), a.Band, tc.want, tc.band)
			}
			sum := 0
			for _, x := range a.Terms {
				if sum += x.Points; !strings.HasSuffix(x.Words, ".") {
					t.Errorf("%q is no sentence", x.Words)
				}
			}
			if max(sum, 0) != a.Score {
				t.Errorf("the terms are %d, the score is %d", sum, a.Score)
			}
		})
	}
}

// TestStrangersRefuseNoService: whoever sends wrong secrets of a service, and of others,
// from a network that it moves to does not have it refused.
func TestStrangersRefuseNoService(t *testing.T) {
	h := &risk.History{}
	e := risk.Event{Did: risk.SignIn, Network: "203.0.113.0/24", Things: []string{"notes:read"}, NoDevice: true}
	for hour := range 24 * 21 {
		e.At = monday.Add(time.Duration(hour) * time.Hour)
		h.Learn(e, false)
	}
	e.Network, e.At = "192.0.2.0/24", e.At.Add(time.Minute)
	for range 40 {
		f := e
		f.Did = risk.Failure
		h.Learn(f, false)
	}
	a := risk.Default().Score(h, e, 16, nil)
	if got, want := names(a), "new_network+40 failures+20 network_attacks+20"; got != want || a.Band == risk.Extreme {
		t.Errorf("%s: %q, want %q", a.Band, got, want)
	}
}

// TestSlippingIn shows that who slips in once is not at home from then on.
func TestSlippingIn(t *testing.T) {
	h, e := settled()
	e.Device = "other"
	h.Learn(e, false)
	e.At = e.At.Add(time.Minute)
	if a := risk.Default().Score(h, e, 0, nil); a.Score == 0 {
		t.Error("seen once without proof, and known")
	}
	h.Learn(e, true)
	if a := risk.Default().Score(h, e, 0, nil); a.Score != 0 {
		t.Errorf("proved, and %s", names(a))
	}
}

func TestNobodyIsUnusualAtFirst(t *testing.T) {
	var h risk.History
	_, e := settled()
	for range 20 {
		if a := risk.Default().Score(&h, e, 0, nil); a.Band != risk.Low {
			t.Fatalf("%s: %s", a.Band, names(a))
		}
		h.Learn(e, false)
		e.At, e.Network = e.At.Add(time.Hour), e.Network+"x"
	}
}

// TestHistory writes and reads histories of made-up lives: the same scores come of
// what was read, however long the life, in bounded room.
func TestHistory(t *testing.T) {
	c := population.Config{Seed: 7, People: 6, Services: 2, Days: 60, Takeovers: 2}
	all := make([]risk.History, c.People+c.Services)
	var most int
	for _, x := range population.Generate(c) {
		h := &all[x.Actor]
		b, err := h.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again risk.History
		if err := again.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		x.At = x.At.Truncate(time.Second) // as it is kept
		if a, b := risk.Default().Score(h, x.Event, 0, nil), risk.Default().Score(&again, x.Event, 0, nil); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
		most = max(most, len(b))
		if x.Prompt {
			h.Asked(x.At.String(), x.At, x.At.Add(promptLife), risk.Low)
			continue
		}
		h.Learn(x.Event, x.Did == risk.SignIn)
	}
	if most > 4<<10 || most < 500 {
		t.Errorf("%d bytes", most)
	}
}

// TestHistoryIsBounded: whatever an actor does, its history is at most 4 KiB, and read
// as it was written.
func TestHistoryIsBounded(t *testing.T) {
	var h risk.History
	at := monday
	for i := range 1000 {
		at = at.Add(time.Hour)
		x := fmt.Sprint(i)
		h.Learn(risk.Event{
			At: at, Network: fmt.Sprintf("10.%d.%d.0/24", i%250, i/250), Place: risk.Place{Country: x[:1] + "X", Latitude: 1, Longitude: float64(i % 90)},
			Device: x, Agent: x, App: x, Things: []string{x},
		}, true)
		h.Learn(risk.Event{At: at, Did: risk.Failure, Network: x}, false)
		h.Asked(x, at, at.Add(promptLife), risk.High)
	}
	b, err := h.MarshalBinary()
	if err != nil || len(b) > 4<<10 || len(b) < 3<<10 {
		t.Errorf("%d bytes %v", len(b), err)
	}
	var again risk.History
	if err := again.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if c, _ := again.MarshalBinary(); !bytes.Equal(b, c) {
		t.Error("read differently than it was written")
	}
}

// TestMerge shows that two processes which learn apart end up with all of it, and
// that what both know is not counted twice.
func TestMerge(t *testing.T) {
	a, e := settled()
	b, _ := settled()
	before, _ := a.MarshalBinary()
	a.Merge(b)
	if after, _ := a.MarshalBinary(); !bytes.Equal(before, after) {
		t.Error("merging the same changed it")
	}
	there, here := e, e
	there.Device, here.Network = "other", "192.0.2.0/24"
	a.Learn(here, true)
	b.Learn(there, true)
	for range 30 {
		miss := here
		miss.Did = risk.Failure
		b.Learn(miss, false)
	}
	if !a.News(there) || a.News(here) {
		t.Error("what is news")
	}
	a.Merge(b)
	b.Merge(a)
	for _, h := range []*risk.History{a, b} {
		there.Network = here.Network
		if got := names(risk.Default().Score(h, there, 0, nil)); got != "failures+20" {
			t.Errorf("%q", got)
		}
	}
	var fresh risk.History
	fresh.Merge(a)
	x, _ := fresh.MarshalBinary()
	if y, _ := a.MarshalBinary(); !bytes.Equal(x, y) {
		t.Error("a copy is not the same")
	}
}

func FuzzHistory(f *testing.F) {
	h, _ := settled()
	b, _ := h.MarshalBinary()
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h risk.History
		if err := h.UnmarshalBinary(b); err != nil {
			if !reflect.DeepEqual(h, risk.History{}) {
				t.Error("an error, and a history")
			}
			return
		}
		_, e := settled()
		risk.Default().Score(&h, e, 3, nil)
		h.Learn(e, true)
		if _, err := h.MarshalBinary(); err != nil {
			t.Error(err)
		}
		if len(b) > 0 {
			again, _ := func() ([]byte, error) { var h risk.History; _ = h.UnmarshalBinary(b); return h.MarshalBinary() }()
			if !bytes.Equal(again, b) {
				t.Error("written differently than read")
			}
		}
	})
}

func TestCrowd(t *testing.T) {
	var c risk.Crowd
	for i := range 40 {
		c.Failed("203.0.113.0/24", fmt.Sprint("person", i), monday)
		c.Failed("", fmt.Sprint("person", i), monday)
	}
	c.Failed("192.0.2.0/24", "person1", monday)
	c.Failed("192.0.2.0/24", "person1", monday)
	for _, tc := range []struct {
		network, actor string
		after          time.Duration
		want           int
	}{
		{"203.0.113.0/24", "other", time.Hour, 16},
		{"203.0.113.0/24", "other", 25 * time.Hour, 0},
		{"", "other", 0, 0},
		{"192.0.2.0/24", "other", 0, 1},
		{"192.0.2.0/24", "person1", 0, 0},
		{"198.51.100.0/24", "other", 0, 0},
	} {
		if got := c.Failing(tc.network, tc.actor, monday.Add(tc.after)); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
	for i := range 10000 {
		c.Failed(fmt.Sprint("network", i), "person", monday.Add(time.Duration(i)*time.Second))
	}
	if c.Failing("203.0.113.0/24", "other", monday) != 0 || c.Failing("network9999", "other", monday.Add(3*time.Hour)) != 1 {
		t.Error("it does not forget what is past for longest")
	}
}

func BenchmarkScore(b *testing.B) {
	h, e := settled()
	e.Network = "192.0.2.0/24"
	s := risk.Default()
	b.ReportAllocs()
	for b.Loop() {
		s.Score(h, e, 0, nil)
	}
}

func BenchmarkHistory(b *testing.B) {
	h, _ := settled()
	raw, _ := h.MarshalBinary()
	b.ReportAllocs()
	for b.Loop() {
		var h risk.History
		_ = h.UnmarshalBinary(raw)
		_, _ = h.MarshalBinary()
	}
}
