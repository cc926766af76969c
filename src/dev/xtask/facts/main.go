// Command facts reads what Kubernetes' Go modules say about the types of the API and writes the facts alone, no
// prose: `facts blob FILE` the lookup table of crate schema, `facts pairs FILE` encoded examples of every kind,
// `facts refusals FILE` what Go's decoder says of broken ones, `facts judgements FILE` what upstream's validator says of
// random custom resources, `facts definitions FILE` what it says of their schemas.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fatal("usage: facts blob|pairs|refusals|judgements|definitions FILE")
	}
	switch os.Args[1] {
	case "blob":
		facts := collect()
		write(os.Args[2], facts.encode())
		fmt.Fprintf(os.Stderr, "%d kinds, %d types, %d shapes, %d fields\n",
			len(facts.kinds), len(facts.types), len(facts.shapes), len(facts.fields))
	case "pairs":
		write(os.Args[2], pairs())
	case "refusals":
		write(os.Args[2], refusals())
	case "judgements":
		write(os.Args[2], judgements())
	case "definitions":
		write(os.Args[2], definitions())
	default:
		fatal("unknown command %q", os.Args[1])
	}
}

func write(path string, content []byte) {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		fatal("%v", err)
	}
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "facts: "+format+"\n", args...)
	os.Exit(1)
}
