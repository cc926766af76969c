//! gRPC's reflection service: what services and messages there are.

use std::collections::BTreeSet;

use futures_util::stream;
use prost::Message;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use crate::core::Core;
use crate::proto::DESCRIPTORS;
use crate::proto::reflection as pb;
use crate::proto::reflection::server_reflection_request::MessageRequest;
use crate::proto::reflection::server_reflection_response::MessageResponse;
use crate::proto::reflection::server_reflection_server::ServerReflection;
use crate::services::Answers;

/// `google.protobuf.FileDescriptorSet`, its files as they are.
#[derive(Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// Of a `FileDescriptorProto` what files are found by.
#[derive(Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependencies: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Named>,
    #[prost(message, repeated, tag = "5")]
    enums: Vec<Named>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Named>,
}

#[derive(Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

struct Files(Vec<(File, Vec<u8>)>);

impl Files {
    fn read() -> Self {
        let set = FileSet::decode(DESCRIPTORS).expect("our own descriptors are whole");
        let read = |bytes: Vec<u8>| {
            let file = File::decode(bytes.as_slice()).expect("our own descriptors are whole");
            (file, bytes)
        };
        Self(set.files.into_iter().map(read).collect())
    }

    fn services(&self) -> Vec<pb::ServiceResponse> {
        let of = |file: &File| -> Vec<_> {
            let full = |service: &Named| format!("{}.{}", file.package, service.name);
            file.services.iter().map(full).collect()
        };
        self.0
            .iter()
            .flat_map(|(file, _)| of(file))
            .map(|name| pb::ServiceResponse { name })
            .collect()
    }

    /// The file that has a service, message or enumeration, or something in one of them.
    fn with_symbol(&self, symbol: &str) -> Option<&str> {
        let has = |file: &File| {
            let within = symbol
                .strip_prefix(&file.package)
                .and_then(|rest| rest.strip_prefix('.'));
            let first = within.and_then(|within| within.split('.').next());
            let mut names = file
                .services
                .iter()
                .chain(&file.messages)
                .chain(&file.enums);
            first.is_some_and(|first| names.any(|named| named.name == first))
        };
        self.0
            .iter()
            .find(|(file, _)| has(file))
            .map(|(file, _)| file.name.as_str())
    }

    /// A file and all that it needs.
    fn with_dependencies(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        self.named(name)?;
        let (mut wanted, mut seen, mut found) = (vec![name], BTreeSet::new(), Vec::new());
        while let Some(name) = wanted.pop() {
            if seen.insert(name)
                && let Some((file, bytes)) = self.named(name)
            {
                found.push(bytes.clone());
                wanted.extend(file.dependencies.iter().map(String::as_str));
            }
        }
        Some(found)
    }

    fn named(&self, name: &str) -> Option<&(File, Vec<u8>)> {
        self.0.iter().find(|(file, _)| file.name == name)
    }
}

#[async_trait]
impl ServerReflection for Core {
    type ServerReflectionInfoStream = Answers<pb::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<pb::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let begin = (Files::read(), request.into_inner());
        let answers = stream::try_unfold(begin, |(files, mut requests)| async move {
            let Some(request) = requests.message().await? else {
                return Ok(None);
            };
            let answer = pb::ServerReflectionResponse {
                valid_host: request.host.clone(),
                message_response: Some(respond(&files, request.message_request.as_ref())),
                original_request: Some(request),
            };
            Ok(Some((answer, (files, requests))))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn respond(files: &Files, asked: Option<&MessageRequest>) -> MessageResponse {
    let file = |name: Option<&str>, asked: &str| match name
        .and_then(|name| files.with_dependencies(name))
    {
        Some(file_descriptor_proto) => {
            MessageResponse::FileDescriptorResponse(pb::FileDescriptorResponse {
                file_descriptor_proto,
            })
        }
        None => failure(Code::NotFound, format!("{asked} is not known")),
    };
    match asked {
        Some(MessageRequest::FileByFilename(name)) => file(Some(name), name),
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            file(files.with_symbol(symbol), symbol)
        }
        Some(MessageRequest::ListServices(_)) => {
            MessageResponse::ListServicesResponse(pb::ListServiceResponse {
                service: files.services(),
            })
        }
        // Nothing here has extensions.
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
            MessageResponse::AllExtensionNumbersResponse(pb::ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: Vec::new(),
            })
        }
        Some(MessageRequest::FileContainingExtension(extension)) => failure(
            Code::NotFound,
            format!("{} has no extensions", extension.containing_type),
        ),
        None => failure(Code::InvalidArgument, "nothing is asked".to_owned()),
    }
}

fn failure(code: Code, error_message: String) -> MessageResponse {
    MessageResponse::ErrorResponse(pb::ErrorResponse {
        error_code: code.into(),
        error_message,
    })
}
