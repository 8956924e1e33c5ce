// Package population makes up the days of people and services, and attacks on
// some of them, to measure how often scoring disturbs the former and misses the
// latter. It is no part of the product. It was written before any weight of
// package risk was chosen and must not be changed to suit one: what it should have
// that it has not is added with a new measurement on seeds never looked at.
//
// A person has one home, a device or two, an office or none, a telephone on a
// carrier's many prefixes, a role with things they touch more or less often, and
// hours. They travel, move house, get a new device, clear their cookies, change
// projects, work a night before a deadline, mistype and forget. They use a few of the
// apps there are, and now and then one more; some ask for themselves. A service has
// its networks, its hours are all hours, and it is deployed anew now and then.
package population

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2" //house:allow made-up days come again from their seed, nothing secret
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
)

// Attack is a way to take something over.
type Attack string

// The attacks. Each begins in the second half of the days, so that there is a
// history, and lasts from minutes to hours.
const (
	StolenToken  Attack = "stolen token"           // from a hoster abroad, with what was on somebody's disk
	NearbyProxy  Attack = "stolen token, nearby"   // the same through somebody's home in the same town
	Stuffing     Attack = "credential stuffing"    // lists of passwords from many networks; some fit
	Spraying     Attack = "password spraying"      // one password on everybody, slowly, from few networks
	Bombing      Attack = "prompt bombing"         // prompts until one is answered
	DeviceCode   Attack = "phished device code"    // the person approves, somebody else gets what it gives
	KeptCode     Attack = "phished code, kept"     // the same with a token alone, which shows no device anywhere, and is refreshed
	OwnDevice    Attack = "malware on the device"  // from the person's own device, network and browser
	ServiceKey   Attack = "stolen service key"     // used from elsewhere
	ServiceAbuse Attack = "abuse inside a service" // used from where it always is
)

// Attacks are all of them.
var Attacks = []Attack{StolenToken, NearbyProxy, Stuffing, Spraying, Bombing, DeviceCode, OwnDevice, ServiceKey, ServiceAbuse, KeptCode} // added ones last: the others stay as they were

// Happening is one event with what the scorer must not see.
type Happening struct {
	risk.Event
	Prompt bool   // it is no event: the actor was asked for a proof that nobody here began, and does not answer
	Actor  int    // from 0; those below Config.People are people
	Attack Attack // "" is somebody's normal day
	Case   int    // which attack it belongs to, from 1; 0 is none
}

// Config says how much to make up.
type Config struct {
	Seed             uint64
	People, Services int
	Days             int
	Takeovers        int // of each attack
}

// begin is a Monday.
var begin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// Generate makes it all, in the order of time. The same Config gives the same.
func Generate(c Config) []Happening {
	w := &world{Config: c, r: rand.New(rand.NewPCG(c.Seed, 0x636f756e746572)), apps: rand.New(rand.NewPCG(c.Seed, 0x61707073))}
	for i := range c.People {
		w.lives = append(w.lives, w.person(i))
	}
	for i := range c.Services {
		w.services = append(w.services, w.service(c.People+i))
	}
	for day := range c.Days {
		for _, l := range w.lives {
			w.day(l, day)
		}
		for _, s := range w.services {
			w.run(s, day)
		}
	}
	for _, a := range Attacks {
		for range c.Takeovers {
			w.cases++
			w.attack(a)
		}
	}
	slices.SortStableFunc(w.out, func(a, b Happening) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Actor, b.Actor))
	})
	return w.out
}

// world is the state of making it.
type world struct {
	Config
	r        *rand.Rand
	apps     *rand.Rand // of which app is used: all else is as it was before there were apps
	lives    []*life
	services []*service
	out      []Happening
	cases    int
	next     int // of names made up
}

// town is where somebody lives.
type town struct {
	place  risk.Place
	offset time.Duration // local time
}

var towns = []town{
	{risk.Place{Country: "DE", Latitude: 52.5, Longitude: 13.4}, time.Hour},
	{risk.Place{Country: "DE", Latitude: 48.1, Longitude: 11.6}, time.Hour},
	{risk.Place{Country: "FR", Latitude: 48.9, Longitude: 2.4}, time.Hour},
	{risk.Place{Country: "GB", Latitude: 51.5, Longitude: -0.1}, 0},
	{risk.Place{Country: "US", Latitude: 40.7, Longitude: -74}, -5 * time.Hour},
	{risk.Place{Country: "US", Latitude: 37.8, Longitude: -122.4}, -8 * time.Hour},
	{risk.Place{Country: "IN", Latitude: 12.9, Longitude: 77.6}, 330 * time.Minute},
	{risk.Place{Country: "JP", Latitude: 35.7, Longitude: 139.7}, 9 * time.Hour},
}

// abroad are where attacks come from, and some travellers go.
var abroad = []risk.Place{
	{Country: "NL", Latitude: 52.4, Longitude: 4.9},
	{Country: "RO", Latitude: 44.4, Longitude: 26.1},
	{Country: "VN", Latitude: 21, Longitude: 105.8},
	{Country: "BR", Latitude: -23.5, Longitude: -46.6},
	{Country: "ES", Latitude: 40.4, Longitude: -3.7},
	{Country: "SG", Latitude: 1.35, Longitude: 103.8},
}

// life is a person.
type life struct {
	actor             int
	town              town
	home              string
	office            string // "" for who works at home only
	carrier           int
	vpn               string // of those who use one for half of what they do
	vpnPlace          risk.Place
	devices           []device
	started           float64 // hour of the day, local
	lasts             float64 // hours
	weekends, nights  float64 // chances of such a day
	officeDays, chats float64
	busy              float64 // uses on a normal day
	things            []string
	apps              []string // what is used most first
	away              int      // until which day
	awayAt            risk.Place
	awayNet           string
	signed            map[string]time.Time // when, by device
}

type device struct {
	id      string
	managed bool
	phone   bool
}

func (w *world) chance(p float64) bool { return w.r.Float64() < p }

func (w *world) name(kind string) string {
	w.next++
	return fmt.Sprintf("%s-%d", kind, w.next)
}

// prefix is a network that nobody else is in.
func (w *world) prefix() string {
	w.next++
	return fmt.Sprintf("%d.%d.%d.0/24", 11+w.next>>16&63, w.next>>8&255, w.next&255)
}

// carrier is one of the 60 prefixes that telephones of a carrier come from.
func (w *world) carrier(n int) string { return fmt.Sprintf("100.%d.%d.0/24", n, w.r.IntN(60)) }

// offices are two, each of a few towns.
func office(t town) string {
	if t.place.Country == "US" {
		return "192.0.2.0/24"
	}
	return "198.51.100.0/24"
}

func (w *world) person(actor int) *life {
	l := &life{
		actor: actor, town: towns[w.r.IntN(len(towns))], home: w.prefix(), carrier: w.r.IntN(20),
		started: 7 + 3*w.r.Float64(), lasts: 7.5 + 2*w.r.Float64(), weekends: 0.03, nights: 0.01,
		busy: 8 + 40*w.r.Float64()*w.r.Float64(), officeDays: 0.5, chats: 0.25, signed: map[string]time.Time{},
	}
	if w.chance(0.7) {
		l.office = office(l.town)
	}
	if w.chance(0.06) {
		l.vpn, l.vpnPlace = w.prefix(), abroad[w.r.IntN(len(abroad))]
	}
	if w.chance(0.1) {
		l.weekends = 0.4
	}
	if w.chance(0.08) {
		l.nights = 0.15
	}
	l.devices = append(l.devices, device{id: w.name("device"), managed: l.office != "" || w.chance(0.3)})
	if w.chance(0.6) {
		l.devices = append(l.devices, device{id: w.name("device"), phone: true})
	}
	for range 6 + w.r.IntN(12) {
		l.things = append(l.things, fmt.Sprintf("scope-%d", w.r.IntN(400)))
	}
	for range 2 + w.apps.IntN(5) {
		l.apps = append(l.apps, w.anApp())
	}
	return l
}

// anApp is one of the forty that there are, some of which many use.
func (w *world) anApp() string {
	return fmt.Sprintf("app-%d", int(40*w.apps.Float64()*w.apps.Float64()))
}

// oneApp is one of the apps of somebody, or a page of the account itself.
func (w *world) oneApp(l *life) string {
	if w.apps.Float64() < 0.1 {
		return ""
	}
	return l.apps[min(len(l.apps)-1, int(math.Abs(w.apps.NormFloat64())*float64(len(l.apps))/2.5))]
}

// changes are what happens to somebody before a day.
func (w *world) changes(l *life, day int) {
	switch {
	case w.chance(1.0 / 300): // moved house
		l.home, l.town = w.prefix(), towns[w.r.IntN(len(towns))]
	case w.chance(1.0 / 90): // another address at home
		l.home = w.prefix()
	}
	if w.chance(1.0 / 120) { // a new device, or cookies cleared
		i := w.r.IntN(len(l.devices))
		l.devices[i].id = w.name("device")
	}
	if w.chance(1.0 / 12) { // something new to do
		l.things = append(l.things, fmt.Sprintf("scope-%d", w.r.IntN(400)))
	}
	if w.apps.Float64() < 1.0/40 { // another app
		l.apps = append(l.apps, w.anApp())
	}
	if w.chance(1.0 / 60) { // another project
		for range 4 {
			l.things = append(l.things, fmt.Sprintf("scope-%d", w.r.IntN(400)))
		}
		l.things = l.things[min(3, len(l.things)-1):]
	}
	if day > l.away && w.chance(1.0/70) { // away for some days
		l.away, l.awayNet = day+1+w.r.IntN(5), w.prefix()
		l.awayAt = towns[w.r.IntN(len(towns))].place
		if w.chance(0.4) {
			l.awayAt = abroad[w.r.IntN(len(abroad))]
		}
	}
}

// day is one day of somebody.
func (w *world) day(l *life, day int) {
	w.changes(l, day)
	date := begin.AddDate(0, 0, day)
	weekday := date.Weekday()
	if (weekday == time.Saturday || weekday == time.Sunday) && !w.chance(l.weekends) {
		if w.chance(l.chats) { // a look at the telephone
			w.uses(l, date, 10+8*w.r.Float64(), false)
		}
		return
	}
	if w.chance(0.06) {
		return // free
	}
	inOffice := l.office != "" && day > l.away && w.chance(l.officeDays)
	from := l.started + w.r.NormFloat64()*0.5
	var hours []float64
	for range w.poisson(l.busy * w.tail()) {
		hours = append(hours, from+l.lasts*w.r.Float64())
	}
	if w.chance(l.nights) {
		for range 1 + w.poisson(6) {
			hours = append(hours, 20+5*w.r.Float64())
		}
	}
	slices.Sort(hours)
	for _, h := range hours {
		w.uses(l, date, h, inOffice)
	}
	if w.chance(1.0 / 150) { // forgot, and tried
		at := w.at(l, date, from)
		for i := range 3 + w.r.IntN(4) {
			w.emit(l, at.Add(time.Duration(i)*12*time.Second), risk.Failure, l.devices[0], false)
		}
	}
}

// tail makes some days much longer than others.
func (w *world) tail() float64 {
	switch {
	case w.chance(0.02):
		return 3
	case w.chance(0.1):
		return 1.7
	}
	return 1
}

func (w *world) at(l *life, date time.Time, hour float64) time.Time {
	return date.Add(time.Duration(hour*float64(time.Hour)) - l.town.offset)
}

// uses is a use at an hour of their day.
func (w *world) uses(l *life, date time.Time, hour float64, inOffice bool) {
	d := l.devices[0]
	if len(l.devices) > 1 && (w.chance(0.15) || hour > 19) {
		d = l.devices[1]
	}
	w.emit(l, w.at(l, date, hour), risk.Use, d, inOffice)
}

// emit is one event of a normal day.
func (w *world) emit(l *life, at time.Time, did risk.Did, d device, inOffice bool) {
	h := Happening{Actor: l.actor, Event: risk.Event{At: at, Did: did, Device: d.id, Managed: d.managed, Network: l.home, Place: l.town.place}}
	day := int(at.Sub(begin) / (24 * time.Hour))
	switch {
	case inOffice && !d.phone:
		h.Network, h.Trusted = l.office, true
	case day <= l.away && l.awayNet != "":
		h.Network, h.Place = l.awayNet, l.awayAt
		if d.phone {
			h.Network = fmt.Sprintf("101.%d.%d.0/24", int(l.awayAt.Country[0])+int(l.awayAt.Country[1])-130, w.r.IntN(60)) // a carrier there
		}
	case d.phone && w.chance(0.6):
		h.Network = w.carrier(l.carrier)
	case w.chance(0.01):
		h.Network = w.prefix() // a café
	}
	if l.vpn != "" && !inOffice && w.chance(0.5) {
		h.Network, h.Place = l.vpn, l.vpnPlace
	}
	if did == risk.Use {
		h.App = w.oneApp(l)
		// What is used most comes first.
		h.Things = []string{l.things[min(len(l.things)-1, int(math.Abs(w.r.NormFloat64())*float64(len(l.things))/2.5))]}
		since := at.Sub(l.signed[d.id])
		fresh := since > 10*time.Hour
		if fresh {
			if w.chance(0.02) {
				miss := h
				miss.Did, miss.Things, miss.At = risk.Failure, nil, at.Add(-20*time.Second)
				w.out = append(w.out, miss)
			}
			h.Did, l.signed[d.id] = risk.SignIn, at
		} else {
			h.TokenAge = since
		}
		if !fresh && w.apps.Float64() < byItself(d) {
			h.Device, h.Managed, h.NoDevice = "", false, true
		}
		if !fresh && w.chance(0.001) {
			ask := h
			ask.Prompt, ask.Things, ask.At = true, nil, at.Add(time.Minute)
			w.out = append(w.out, ask)
		}
	}
	w.out = append(w.out, h)
}

// byItself is how much of what is used on a device an app on it asks for itself, with
// its tokens, where nothing shows the device.
func byItself(d device) float64 {
	if d.phone {
		return 0.4
	}
	return 0.2
}

// poisson is a number around a mean.
func (w *world) poisson(mean float64) int {
	if mean > 60 {
		return max(0, int(mean+math.Sqrt(mean)*w.r.NormFloat64()))
	}
	limit, p, k := math.Exp(-mean), w.r.Float64(), 0
	for p > limit {
		p *= w.r.Float64()
		k++
	}
	return k
}
