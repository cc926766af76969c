package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"reflect"
	"strings"
)

// markers holds the `+` lines that stand above the fields of Go structs.
type markers struct {
	directories map[string]string
	fields      map[string]map[string][]string
}

func newMarkers(f *facts) *markers {
	return &markers{directories: map[string]string{}, fields: map[string]map[string][]string{}}
}

func (m *markers) of(t reflect.Type, field string) []string {
	path := t.PkgPath()
	if _, read := m.fields[path]; !read {
		m.fields[path] = m.read(path)
	}
	return m.fields[path][t.Name()+"."+field]
}

func (m *markers) read(path string) map[string][]string {
	output, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		fatal("go list %s: %v", path, err)
	}
	packages, err := parser.ParseDir(token.NewFileSet(), strings.TrimSpace(string(output)), nil, parser.ParseComments)
	if err != nil {
		fatal("%s: %v", path, err)
	}
	found := map[string][]string{}
	for _, pkg := range packages {
		for _, file := range pkg.Files {
			for _, declaration := range file.Decls {
				readTypes(declaration, found)
			}
		}
	}
	return found
}

func readTypes(declaration ast.Decl, found map[string][]string) {
	types, ok := declaration.(*ast.GenDecl)
	if !ok {
		return
	}
	for _, spec := range types.Specs {
		named, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		structure, ok := named.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, field := range structure.Fields.List {
			lines := markerLines(field.Doc)
			for _, name := range field.Names {
				found[named.Name.Name+"."+name.Name] = lines
			}
		}
	}
}

func markerLines(doc *ast.CommentGroup) []string {
	lines := []string{}
	if doc == nil {
		return lines
	}
	for _, comment := range doc.List {
		text := strings.TrimSpace(strings.TrimPrefix(comment.Text, "//"))
		if marker, ok := strings.CutPrefix(text, "+"); ok {
			lines = append(lines, marker)
		}
	}
	return lines
}
