// Package witness speaks C2SP tlog-witness, both ways: it submits checkpoints to
// witnesses and is one, so that two deployments can serve each other. It also keeps
// checkpoints elsewhere: in a file on another machine's disk, in a git remote.
//
// What a cosignature is and who must have given one is quorum's; what a deployment
// does with what it learns is the server's.
package witness
