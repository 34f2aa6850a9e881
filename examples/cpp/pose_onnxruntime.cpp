// Pose estimation in one image with ONNX Runtime in C++. docs/deploying.md explains each step.
//
//   pose_onnxruntime MODEL.onnx IMAGE.ppm [KEYPOINTS VALUES] [CONF IOU]
//
// MODEL is exported by `yolo export format=onnx` (with or without nms=True, fixed input size); see pose.cpp for the rest.
#include "pose.hpp"

#include <array>
#include <onnxruntime_cxx_api.h>

void run(const Options& options) {
    const Image image = read_ppm(options.image);
    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "pose");
    const std::basic_string<ORTCHAR_T> path(options.model.begin(), options.model.end());
    Ort::Session session(environment, path.c_str(), Ort::SessionOptions{});
    const auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    if (shape[2] <= 0 || shape[3] <= 0)
        throw std::runtime_error("This example supports files with a fixed input size (dynamic=False) only.");
    const int height = int(shape[2]), width = int(shape[3]);

    const Letterbox box = fit(image, height, width);
    std::vector<float> planes(size_t(3) * height * width);
    fill(planes.data(), height, width, image, box);
    const std::array<int64_t, 4> input_shape{1, 3, height, width};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto input = Ort::Value::CreateTensor<float>(memory, planes.data(), planes.size(), input_shape.data(), 4);

    const char* input_names[] = {"images"};
    const char* output_names[] = {"output0"};
    const auto outputs = session.Run(Ort::RunOptions{nullptr}, input_names, &input, 1, output_names, 1);
    const auto output_shape = outputs[0].GetTensorTypeAndShapeInfo().GetShape();
    print_detections(outputs[0].GetTensorData<float>(), int(output_shape[1]), int(output_shape[2]), options, box, image);
}

int main(int count, char** arguments) {
    return report_errors([&] { run(read_options(count, arguments)); });
}
