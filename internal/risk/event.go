// Package risk says how unusual what an actor does is: signals, each with its
// points and its words, a score, and a band. It is pure and deterministic: what
// the actor did before is a History that is given to it, bounded in size, and the
// time is that of the Event. A score hides nothing: it is the sum of its terms. It
// decides nothing either: policies say what a band asks for (product.md).
package risk

import "time"

// Did is what an event is.
type Did uint8

// What an actor may have done.
const (
	Use     Did = iota // something was used or asked for, with what was proved earlier
	SignIn             // the actor proved itself anew in this event
	Failure            // a proof was wrong
)

// Place is where a network is, as the operator's map says; zero if it is not known.
type Place struct {
	Country             string  // ISO 3166-1 alpha-2
	Latitude, Longitude float64 // degrees; both zero if only the country is known
}

// Event is one thing that an actor does, as far as its risk is concerned.
type Event struct {
	At  time.Time
	Did Did
	// Network is the prefix of the address (IPv4 /24, IPv6 /48: mechanisms D8), ""
	// if it is not known; Trusted that the operator named it as its own.
	Network string
	Trusted bool
	Place   Place
	// Device is the id of a device that was given to the actor, "" if it shows
	// none; Managed that it is the operator's. NoDevice says that nothing of it
	// could show one.
	Device   string
	Managed  bool
	NoDevice bool
	// App is the client that acts, by id, "" if none does; Agent the kind of program
	// that shows Device ("Firefox on Linux"), "" if nothing tells it.
	App   string
	Agent string
	// Things are what it touches, each in one word: an action, a scope at a resource.
	Things []string
	// TokenAge is how long ago the credential that is used was given out; 0 if none
	// is.
	TokenAge time.Duration
	// Transaction names what this is a part of, "" if it stands alone: what a prompt
	// of it caused does not count against it (mechanisms A14).
	Transaction string
}
