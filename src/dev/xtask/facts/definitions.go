package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"math/rand"
	"sort"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
)

const definitionCount = 1500

// definitions returns random schemas, many of them illegal, with what upstream objects to: gzip over records of
// schema and errors, sorted, one a line, their paths beginning with "schema".
func definitions() []byte {
	random := rand.New(rand.NewSource(3))
	var records bytes.Buffer
	for range definitionCount {
		tree := randomObjectSchema(random, 3)
		for range 1 + random.Intn(2) {
			spoil(random, tree)
		}
		text := jsonText(tree)
		writeRecord(&records, text, strings.Join(objections(text), "\n"))
	}
	var compressed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	_, _ = writer.Write(records.Bytes())
	_ = writer.Close()
	return compressed.Bytes()
}

func objections(text string) []string {
	var schema apiextensionsv1.JSONSchemaProps
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		fatal("%v: %s", err, text)
	}
	external := apiextensionsv1.CustomResourceDefinition{}
	external.Name = "as.example.com"
	external.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: "Namespaced",
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "as", Singular: "a", Kind: "A", ListKind: "AList"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v1", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &schema},
		}},
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
	external.Status.StoredVersions = []string{"v1"}
	var internal apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &internal, nil); err != nil {
		fatal("%v", err)
	}
	found := map[string]bool{}
	for _, one := range validation.ValidateCustomResourceDefinition(context.Background(), &internal) {
		line := one.Error()
		for _, prefix := range []string{"spec.validation.openAPIV3Schema", "spec.versions[0].schema.openAPIV3Schema"} {
			line = strings.ReplaceAll(line, prefix, "schema")
		}
		found[line] = true
	}
	lines := []string{}
	for line := range found {
		lines = append(lines, line)
	}
	sort.Strings(lines)
	return lines
}

// spoil adds something that is often illegal to some level of a schema.
func spoil(random *rand.Rand, tree map[string]any) {
	levels := schemaLevels(tree, nil)
	level := levels[random.Intn(len(levels))]
	// Of defaults under unknown types and formats upstream tells more than we do.
	_, hasDefault := level["default"]
	switch random.Intn(16) {
	case 0:
		delete(level, "type")
	case 1:
		if !hasDefault {
			level["type"] = []string{"null", "text", "array", "object", "string"}[random.Intn(5)]
		}
	case 2:
		level["uniqueItems"] = true
	case 3:
		level["additionalProperties"] = map[string]any{"type": "string"}
	case 4:
		level["x-kubernetes-list-type"] = []string{"map", "set", "atomic", "other"}[random.Intn(4)]
	case 5:
		level["x-kubernetes-list-map-keys"] = []any{"a", "b"}[:1+random.Intn(2)]
	case 6:
		level["x-kubernetes-map-type"] = []string{"atomic", "granular", "other"}[random.Intn(3)]
	case 7:
		level["x-kubernetes-embedded-resource"] = true
	case 8:
		level["x-kubernetes-int-or-string"] = true
	case 9:
		level["x-kubernetes-preserve-unknown-fields"] = random.Intn(2) == 0
	case 10:
		if level["type"] == "text" || level["type"] == "null" || level["format"] == "nonsense" {
			return
		}
		level["default"] = []any{"a", 1, map[string]any{"a": 1}, []any{}}[random.Intn(4)]
	case 11:
		level["anyOf"] = []any{map[string]any{"properties": map[string]any{names[random.Intn(4)]: map[string]any{"minimum": 1}}}}
	case 12:
		level["allOf"] = []any{map[string]any{"type": "object", "description": "x", "nullable": true, "default": 1}}
	case 13:
		level["items"] = map[string]any{"type": []string{"object", "string"}[random.Intn(2)]}
	case 14:
		level["$ref"] = "#/x"
	case 15:
		properties, _ := level["properties"].(map[string]any)
		if properties != nil {
			properties[[]string{"metadata", "kind", "apiVersion"}[random.Intn(3)]] = map[string]any{
				"type": []string{"object", "string"}[random.Intn(2)], "maxLength": 3,
			}
		}
	}
}

func schemaLevels(tree map[string]any, found []map[string]any) []map[string]any {
	found = append(found, tree)
	properties, _ := tree["properties"].(map[string]any)
	for _, name := range append([]string{"metadata", "kind", "apiVersion"}, names...) {
		if property, ok := properties[name].(map[string]any); ok {
			found = schemaLevels(property, found)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if child, ok := tree[key].(map[string]any); ok {
			found = schemaLevels(child, found)
		}
	}
	return found
}
