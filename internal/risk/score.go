package risk

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Signal is something that makes an event more, or less, unusual.
type Signal string

// The signals.
const (
	NewDevice        Signal = "new_device"
	NewNetwork       Signal = "new_network"
	NewCountry       Signal = "new_country"
	ImpossibleTravel Signal = "impossible_travel"
	UnusualHour      Signal = "unusual_hour"
	FirstUse         Signal = "first_use" // of an action, a scope or a resource
	NewTool          Signal = "new_tool"  // an app, or a program on a device of the actor's
	UnusualVolume    Signal = "unusual_volume"
	Failures         Signal = "failures"        // of this actor, lately, from here
	NetworkAttacks   Signal = "network_attacks" // several actors failed from this network: stuffing, spraying
	Prompts          Signal = "prompts"         // that nobody answered
	Probing          Signal = "probing"         // much was tried that is refused
	OldToken         Signal = "old_token"
	TrustedNetwork   Signal = "trusted_network"
	ManagedDevice    Signal = "managed_device"
	Reported         Signal = "reported" // by somebody else, through the API
	Vouched          Signal = "vouched"  // an administrator said that it is the actor; see Assessment.Vouch
)

// Term is what one signal adds to a score.
type Term struct {
	Signal Signal
	Points int    // below zero if it speaks for the actor
	Words  string // a sentence for people
}

// The bands (product.md).
const (
	Low     = "low"
	Medium  = "medium"
	High    = "high"
	Extreme = "extreme"
)

// Assessment is a score with all that it is made of: Score is the sum of the
// points of Terms, or 0 if that is below, and Band that of Score, unless a term is
// Vouched.
type Assessment struct {
	Score int
	Band  string
	Terms []Term
	// Before is the highest band at which the event's transaction was challenged, "" if
	// it was not.
	Before string
}

// Worst is the higher of the band and of the one before, "" of the zero Assessment
// (mechanisms A14).
func (a *Assessment) Worst() string {
	if a.Band == "" {
		return ""
	}
	return bands[max(slices.Index(bands, a.Band), slices.Index(bands, a.Before), 0)]
}

// Vouch is the assessment of what an administrator said is the actor itself. It is
// High at most, and no lower than it was: it is asked for what cannot be phished,
// and no word of anybody's stands in for that.
func (a Assessment) Vouch(words string) Assessment {
	if a.Band != Extreme {
		return a
	}
	a.Band = High
	a.Terms = append(slices.Clip(a.Terms), Term{Signal: Vouched, Words: words})
	return a
}

// Settings are the points that each signal is worth at most, and where the bands
// begin.
type Settings struct {
	Points                map[Signal]int
	Machine               map[Signal]int // instead, for actors that never showed a device: what they do is narrow
	Medium, High, Extreme int
}

// Default gives the settings that were measured (TestRates).
func Default() Settings {
	return Settings{
		Points: map[Signal]int{
			NewDevice: 45, NewNetwork: 15, NewCountry: 25, ImpossibleTravel: 30, UnusualHour: 15, FirstUse: 40, NewTool: 15, UnusualVolume: 30,
			Failures: 20, NetworkAttacks: 45, Prompts: 50, Probing: 45, OldToken: 5, TrustedNetwork: -20, ManagedDevice: -10, Reported: 60,
		},
		// What strangers do in a network that is new for a service refuses it not by itself.
		Machine: map[Signal]int{
			NewNetwork: 40, NewCountry: 40, FirstUse: 60, UnusualVolume: 40, NetworkAttacks: 20, ImpossibleTravel: 0, NewTool: 0, TrustedNetwork: 0,
		},
		Medium: 35, High: 60, Extreme: 85,
	}
}

// Band is that of a score.
func (s Settings) Band(score int) string {
	switch {
	case score >= s.Extreme:
		return Extreme
	case score >= s.High:
		return High
	case score >= s.Medium:
		return Medium
	}
	return Low
}

// scoring is the making of an assessment.
type scoring struct {
	s       Settings
	machine bool
	out     Assessment
}

// worth is what a signal is worth at most.
func (c *scoring) worth(sig Signal) int {
	if p, ok := c.s.Machine[sig]; ok && c.machine {
		return p
	}
	return c.s.Points[sig]
}

// add adds a share of what a signal is worth at most.
func (c *scoring) add(sig Signal, share float64, words string, args ...any) {
	points := int(math.Round(float64(c.worth(sig)) * min(1, share)))
	if points == 0 {
		return
	}
	c.out.Terms = append(c.out.Terms, Term{sig, points, fmt.Sprintf(words, args...)})
	c.out.Score += points
}

// Score says how unusual an event is that did not happen yet. failing is how many
// actors failed from its network lately (Crowd); reports are those that concern
// the actor, its device or its network.
func (s Settings) Score(h *History, e Event, failing int, reports []Report) Assessment {
	c := &scoring{s: s, machine: e.Device == "" && !h.any(device)}
	known := h.settled(e.At)
	c.place(h, e, known)
	c.habits(h, e, known)
	c.pressure(h, e, failing)
	c.reports(reports, e.At)
	// What speaks for the actor weighs only against what is unusual: nobody saves up.
	if c.out.Score > 0 {
		if e.Trusted {
			c.add(TrustedNetwork, 1, "It comes from a network that is trusted here.")
		}
		if e.Managed {
			c.add(ManagedDevice, 1, "The device is a managed one.")
		}
	}
	c.out.Score = max(0, c.out.Score)
	c.out.Band, c.out.Before = s.Band(c.out.Score), h.before(e.Transaction, e.At)
	return c.out
}

// place is where it comes from.
func (c *scoring) place(h *History, e Event, known float64) {
	if !e.NoDevice && h.any(device) && !h.knows(device, e.Device, e.At) {
		if e.Did == SignIn { // who signs in on a new device proves itself there and then
			known /= 2
		}
		if e.Device == "" {
			c.add(NewDevice, known, "It shows no device that this account has.")
		} else {
			c.add(NewDevice, known, "The device is new for this account.")
		}
	}
	if e.Trusted || e.Network == "" || h.knows(network, e.Network, e.At) {
		return
	}
	c.add(NewNetwork, known, "The network %s is new for this account.", e.Network)
	c.travel(h, e, known)
}

// travel is how it came to a network that is new. Where places are not known, networks
// stand for them: nobody who shows no device of theirs is on two at once.
func (c *scoring) travel(h *History, e Event, known float64) {
	if e.Place.Country != "" && h.any(country) && !h.knows(country, e.Place.Country, e.At) {
		c.add(NewCountry, known, "The country %s is new for this account.", e.Place.Country)
	}
	d := distance(h.where, e.Place)
	if hours := e.At.Sub(h.whereAt).Hours(); d > 500 && d/max(hours, 0.1) > 900 {
		c.add(ImpossibleTravel, known, "Nobody gets there so fast: %.0f km in %s since the last use.", d, e.At.Sub(h.whereAt).Round(time.Minute))
		return
	}
	if h.knows(device, e.Device, e.At) || h.knows(region, regionOf(e.Network), e.At) || e.Place != (Place{}) && h.where != (Place{}) {
		return
	}
	if ago, ok := h.elsewhere(e); ok && ago < atOnce {
		c.add(ImpossibleTravel, known, "It was in use on another network %s before.", words(ago))
	}
}

// atOnce is within what time uses on two networks are at the same time.
const atOnce = 15 * time.Minute

// words say how long something was ago.
func words(ago time.Duration) string {
	if n := int(ago.Minutes()); n > 1 {
		return fmt.Sprintf("%d minutes", n)
	}
	return "a minute"
}

// habits are when it is, what it touches and how much.
func (c *scoring) habits(h *History, e Event, known float64) {
	if share, ok := h.habit(e.At); ok && share < 0.02 {
		c.add(UnusualHour, known*(1-share/0.02), "This account is rarely used at this hour.")
	}
	novel := float64(h.novel.now(e.At))
	first := ""
	for _, x := range e.Things {
		if h.find(thing, x) < 0 {
			novel++
			first = x
		}
	}
	if first != "" {
		// One new thing is everyday, several within the hour are not.
		c.add(FirstUse, known*novel/several(c.machine), "%s was never used by this account before, as %.0f things in the last hour.", first, novel)
	}
	n, usual := float64(h.hour.now(e.At)+1), float64(h.usual)
	if sigma := spread(h); n > 20 && n > usual+4*sigma {
		c.add(UnusualVolume, known*min(1, (n-usual-4*sigma)/(2*(usual+sigma)+10)), "%.0f uses in the last hour; %.0f are usual.", n, usual)
	}
	c.tools(h, e, known)
	if e.TokenAge > 8*time.Hour && c.out.Score > 0 {
		c.add(OldToken, 1, "The credential is %s old.", e.TokenAge.Round(time.Minute))
	}
}

// tools are the app, and the program that shows a device: a device's cookie does not
// move to another kind of browser.
func (c *scoring) tools(h *History, e Event, known float64) {
	if e.App != "" && h.anyKnown(app, e.At) && !h.knows(app, e.App, e.At) {
		c.add(NewTool, known, "This app was never used by this account before.")
	}
	if x := e.program(); x != "" && h.anyKnown(program, e.At) && h.knows(device, e.Device, e.At) && !h.knows(program, x, e.At) {
		c.add(NewTool, known, "This device was never used with %s before.", e.Agent)
	}
}

// several is how many new things within an hour are as unusual as it gets.
func several(machine bool) float64 {
	if machine {
		return 4
	}
	return 8
}

// pressure is what goes on around it. It needs no history.
func (c *scoring) pressure(h *History, e Event, failing int) {
	if n := h.failures(e); n >= 4 {
		c.add(Failures, float64(n)/12, "%.0f proofs of this account were wrong in the last hour, from the same network.", n)
	}
	if n := h.ignored(e.At, e.Transaction); n >= 2 {
		c.add(Prompts, float64(n)/5, "%.0f prompts in the last hour that nobody answered, or with a no.", n)
	}
	if !h.probed.IsZero() && e.At.Sub(h.probed) < span {
		c.add(Probing, 1, "More than %d different things were asked for and refused within five minutes.", ProbingAt)
	}
	if failing >= 3 && !e.Trusted {
		share := min(1, float64(failing)/8)
		if h.knows(network, e.Network, e.At) { // whom others share a network with, they do not make a suspect
			share /= 2
		}
		c.add(NetworkAttacks, share, "%d accounts were tried from this network in vain.", failing)
	}
}
