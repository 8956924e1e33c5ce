package risk

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// kind is what a sight is of.
type kind uint8

const (
	network kind = iota + 1
	country
	device
	thing
	app
	program // on a device
	region  // of addresses
	kinds
)

// How many of each kind are remembered of one actor; of more, those that were not
// seen for longest are forgotten.
var room = [kinds]int{network: 48, country: 8, device: 12, thing: 96, app: 12, program: 12, region: 8}

// sight is something that an actor was seen with.
type sight struct {
	kind        kind
	key         uint64    // a hash, to be short: whoever guesses what it was can tell
	known, last time.Time // from when on it counts as known; both to the second
}

// History is what is remembered of one actor: at most some four kilobytes. The
// zero History is that of an actor who was never seen.
type History struct {
	began   time.Time
	events  float32 // all that were learned
	sights  []sight
	hours   [2][24]float32 // how often in an hour of the day, UTC, on weekdays and at the weekend
	faded   time.Time      // until when hours has faded
	where   Place          // of the last event whose place was known
	whereAt time.Time
	hour    window  // what was done lately
	novel   window  // … of it, with what was never seen before
	usual   float32 // how much is done in an hour in which anything is, in the mean
	spread  float32 // … and the mean of its square
	counted time.Time
	failed  []failing // by network
	prompts []prompt
	probed  time.Time // when too much of it was refused
}

// window counts what happened in the last hour, roughly: it leaks evenly.
type window struct {
	n  float32
	at time.Time
}

// failing is how often the actor failed from one network.
type failing struct {
	network uint64 // a hash
	window
}

// maxFailing is from how many networks failures are remembered of one actor.
const maxFailing = 8

// span is how long a window is.
const span = time.Hour

// fadeTime is how long it takes until an hour's habit counts half.
const fadeTime = 45 * 24 * time.Hour

func (w window) now(at time.Time) float32 {
	if w.n == 0 || !at.After(w.at) {
		return w.n
	}
	return max(0, w.n*float32(1-float64(at.Sub(w.at))/float64(span)))
}

func (w *window) add(n float32, at time.Time) {
	w.n = w.now(at) + n
	if at.After(w.at) {
		w.at = at
	}
}

// most is the fuller of two windows of the same.
func (w *window) most(o window) {
	if o.now(w.at) > w.n {
		*w = o
	}
}

// hash names something without saying it.
func hash(k kind, s string) uint64 {
	var room [64]byte
	h := sha256.Sum256(append(append(room[:0], byte(k)), s...))
	return binary.BigEndian.Uint64(h[:])
}

// find gives the place of something in sights, -1 if it was never seen.
func (h *History) find(k kind, s string) int {
	key := hash(k, s)
	for i := range h.sights {
		if h.sights[i].key == key && h.sights[i].kind == k {
			return i
		}
	}
	return -1
}

func (h *History) knows(k kind, s string, at time.Time) bool {
	if s == "" {
		return false
	}
	i := h.find(k, s)
	return i >= 0 && !at.Before(h.sights[i].known)
}

// any reports whether anything of a kind was ever seen.
func (h *History) any(k kind) bool {
	for i := range h.sights {
		if h.sights[i].kind == k {
			return true
		}
	}
	return false
}

// elsewhere is how long ago the actor was last seen on another network than that of an
// event; ok is false if it never was.
func (h *History) elsewhere(e Event) (ago time.Duration, ok bool) {
	key := hash(network, e.Network)
	for i := range h.sights {
		s := &h.sights[i]
		if s.kind != network || s.key == key {
			continue
		}
		if since := e.At.Sub(s.last); !ok || since < ago {
			ago, ok = max(0, since), true
		}
	}
	return ago, ok
}

// anyKnown reports whether anything of a kind is known by then: where nothing is, nothing
// is new.
func (h *History) anyKnown(k kind, at time.Time) bool {
	for i := range h.sights {
		if h.sights[i].kind == k && !at.Before(h.sights[i].known) {
			return true
		}
	}
	return false
}

func (h *History) see(k kind, s string, at, known time.Time) {
	if s == "" {
		return
	}
	h.join(sight{kind: k, key: hash(k, s), known: known, last: at})
}

// trial is how long something that was seen without proof counts as new still:
// whoever slips in once is not at home from then on.
const trial = 24 * time.Hour

// Learn remembers an event. Uses and sign-ins are learned only after they were
// allowed: what was refused teaches nothing about the actor. proved says that a
// person proved themselves for it; else what it was seen with is new for a day
// more. Failures count for an hour.
func (h *History) Learn(e Event, proved bool) {
	at := e.At.Truncate(time.Second)
	if e.Did == Failure {
		h.fails(failing{hash(network, e.Network), window{1, at}})
		return
	}
	if h.began.IsZero() {
		h.began, h.faded = at, at
	}
	known := at
	if !proved && h.settled(at) == 1 {
		known = at.Add(trial)
	}
	h.events++
	for _, x := range e.Things {
		if h.find(thing, x) < 0 {
			h.novel.add(1, at)
		}
		h.see(thing, x, at, at)
	}
	h.see(network, e.Network, at, known)
	h.see(region, regionOf(e.Network), at, known)
	h.see(country, e.Place.Country, at, known)
	h.see(device, e.Device, at, known)
	h.see(app, e.App, at, known)
	h.see(program, e.program(), at, known)
	if e.Place != (Place{}) && !at.Before(h.whereAt) {
		h.where, h.whereAt = e.Place, at
	}
	h.count(at)
	h.fade(at)
	h.hours[week(at)][at.UTC().Hour()]++
}

// News reports whether Learn would remember something that was never seen before.
func (h *History) News(e Event) bool {
	if h.events < 1 {
		return true
	}
	for k, x := range [kinds]string{network: e.Network, device: e.Device, app: e.App, program: e.program()} {
		if x != "" && h.find(kind(k), x) < 0 {
			return true
		}
	}
	for _, x := range e.Things {
		if h.find(thing, x) < 0 {
			return true
		}
	}
	return false
}

// regionOf is what is near a network among addresses: its /16, of IPv6 its /32. One
// provider's are often within one.
func regionOf(net string) string {
	p, err := netip.ParsePrefix(net)
	if err != nil {
		return ""
	}
	bits := 16
	if p.Addr().Is6() {
		bits = 32
	}
	near, err := p.Addr().Prefix(bits)
	if err != nil {
		return ""
	}
	return near.String()
}

// program names the kind of program on a device, "" if either is not known.
func (e *Event) program() string {
	if e.Device == "" || e.Agent == "" {
		return ""
	}
	return e.Device + " " + e.Agent
}

// fails adds failures from one network. Of too many networks, the one with the
// fewest is forgotten: who fails from many others does not wash off those of one.
func (h *History) fails(f failing) {
	if mine := h.failedFrom(f.network); mine != nil {
		mine.add(f.n, f.at)
		return
	}
	if len(h.failed) < maxFailing {
		h.failed = append(h.failed, f)
		return
	}
	fewest := &h.failed[0]
	for i := range h.failed {
		if mine := &h.failed[i]; mine.now(f.at) < fewest.now(f.at) {
			fewest = mine
		}
	}
	*fewest = f
}

// failedFrom is what is remembered of failures from a network, by hash; nil: nothing.
func (h *History) failedFrom(network uint64) *failing {
	for i := range h.failed {
		if h.failed[i].network == network {
			return &h.failed[i]
		}
	}
	return nil
}

// failures counts the failures of the last hour from the network of an event. From
// where else somebody fails in the actor's name does not count against it.
func (h *History) failures(e Event) float32 {
	if f := h.failedFrom(hash(network, e.Network)); f != nil {
		return f.now(e.At)
	}
	return 0
}

// Merge adds what another history of the same actor knows, which another process
// kept. What both know is not counted twice.
func (h *History) Merge(o *History) {
	h.Probed(o.probed)
	for _, p := range o.prompts {
		h.asks(p)
	}
	for _, f := range o.failed {
		if mine := h.failedFrom(f.network); mine != nil {
			mine.most(f.window)
		} else {
			h.fails(f)
		}
	}
	if o.began.IsZero() {
		return
	}
	if h.began.IsZero() || !o.began.IsZero() && o.began.Before(h.began) {
		h.began = o.began
	}
	h.events = max(h.events, o.events)
	for _, s := range o.sights {
		h.join(s)
	}
	for i := range h.hours {
		for j := range h.hours[i] {
			h.hours[i][j] = max(h.hours[i][j], o.hours[i][j])
		}
	}
	if h.faded.Before(o.faded) {
		h.faded = o.faded
	}
	if h.whereAt.Before(o.whereAt) {
		h.where, h.whereAt = o.where, o.whereAt
	}
	for _, w := range []struct{ mine, other *window }{{&h.hour, &o.hour}, {&h.novel, &o.novel}} {
		w.mine.most(*w.other)
	}
	if h.counted.Before(o.counted) {
		h.usual, h.spread, h.counted = o.usual, o.spread, o.counted
	}
}

// join adds a sight. Of too many of its kind, those that were not seen for longest
// are forgotten.
func (h *History) join(s sight) {
	n, oldest := 0, -1
	for i := range h.sights {
		mine := &h.sights[i]
		if mine.kind != s.kind {
			continue
		}
		if mine.key == s.key {
			if s.known.Before(mine.known) {
				mine.known = s.known
			}
			if s.last.After(mine.last) {
				mine.last = s.last
			}
			return
		}
		if n++; oldest < 0 || mine.last.Before(h.sights[oldest].last) {
			oldest = i
		}
	}
	switch {
	case n < room[s.kind]:
		h.sights = append(h.sights, s)
	case h.sights[oldest].last.Before(s.last):
		h.sights[oldest] = s
	}
}

// count learns how much is usual: once an hour in which something is done.
func (h *History) count(at time.Time) {
	h.hour.add(1, at)
	if h.counted.IsZero() {
		h.counted = at
	}
	if at.Sub(h.counted) < span {
		return
	}
	h.counted = at
	n := h.hour.n
	if h.usual == 0 {
		h.usual, h.spread = n, n*n
		return
	}
	h.usual += (n - h.usual) / 16
	h.spread += (n*n - h.spread) / 16
}

// fade lets habits count less the longer they are past.
func (h *History) fade(at time.Time) {
	passed := at.Sub(h.faded)
	if passed < 24*time.Hour {
		return
	}
	by := float32(math.Exp2(-float64(passed) / float64(fadeTime)))
	for i := range h.hours {
		for j := range h.hours[i] {
			h.hours[i][j] *= by
		}
	}
	h.faded = at
}

// week is 1 at the weekend, in UTC.
func week(at time.Time) int {
	switch at.UTC().Weekday() {
	case time.Saturday, time.Sunday:
		return 1
	}
	return 0
}

// habit is the share of what the actor does that it does at this hour, the hours
// beside it counted half; ok is false if too little is known.
func (h *History) habit(at time.Time) (share float64, ok bool) {
	var all float32
	for i := range h.hours {
		for _, n := range h.hours[i] {
			all += n
		}
	}
	if all < 40 {
		return 0, false
	}
	of := &h.hours[week(at)]
	hour := at.UTC().Hour()
	return float64(of[hour]+(of[(hour+23)%24]+of[(hour+1)%24])/2) / float64(all), true
}

// settled says how much is known of the actor, from 0 to 1: what is new to
// somebody of whom nothing is known says nothing.
func (h *History) settled(at time.Time) float64 {
	if h.began.IsZero() {
		return 0
	}
	return min(1, float64(h.events)/30) * min(1, float64(at.Sub(h.began))/float64(7*24*time.Hour))
}

// distance between two places in kilometres; 0 if one of them is no point.
func distance(a, b Place) float64 {
	if a.Latitude == 0 && a.Longitude == 0 || b.Latitude == 0 && b.Longitude == 0 {
		return 0
	}
	rad := func(d float64) float64 { return d * math.Pi / 180 }
	dLat, dLon := rad(b.Latitude-a.Latitude), rad(b.Longitude-a.Longitude)
	s := math.Pow(math.Sin(dLat/2), 2) + math.Cos(rad(a.Latitude))*math.Cos(rad(b.Latitude))*math.Pow(math.Sin(dLon/2), 2)
	return 2 * 6371 * math.Asin(math.Min(1, math.Sqrt(s)))
}
