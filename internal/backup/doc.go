// Package backup is the form of a backup: one encrypted stream of files and tables
// (contract, "Backup is one encrypted bundle"). It knows age and bytes; what is in
// the tables is the store's, what is done with a backup the server's.
//
// A bundle is an age file. Inside, after one line that names the form, comes a
// gzip stream of frames. A frame begins with its kind, one byte, and holds
//
//	'm'  the manifest, as JSON; the first, once
//	'f'  a file: its name, its content
//	't'  a table: its name, how many columns, their names
//	'r'  a row of the newest table: each value as a kind (0 NULL, 1 integer, 2 text,
//	     3 bytes) and the value
//	'e'  the end: how many rows there were
//
// Texts and bytes have their length before them; lengths, counts and integers are
// varints. Whatever comes short of 'e', or is more than the limits allow, is an
// error, and age authenticates every byte.
package backup
