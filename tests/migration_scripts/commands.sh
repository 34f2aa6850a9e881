yolo pose predict model=yolo11n-pose.pt source=bus.jpg imgsz=320 save_txt=True project=cli name=predict
yolo predict model=yolo11n-pose.pt source='images' conf=0.4 imgsz=320 save=False project=cli
yolo pose train data=data.yaml model=yolo11n-pose.yaml epochs=1 imgsz=64 batch=4 workers=0 device=cpu plots=False project=cli name=train
yolo pose val model=cli/train/weights/best.pt data=data.yaml imgsz=64 plots=False device=cpu
yolo export model=yolo11n-pose.pt format=torchscript imgsz=320
yolo task=pose mode=track model=yolo11n-pose.pt source=walk.avi imgsz=320 tracker=botsort.yaml project=cli
yolo checks
yolo version
